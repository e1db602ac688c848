"""How to install what is missing: nnsam is on no package index, so that `pip install nnsam` is no advice."""

import importlib.metadata
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

_EXTRA = re.compile(r"(.+?)\s*;\s*extra\s*==\s*[\"']([\w-]+)[\"']")


def how_to_install(extra: str) -> str:
    """Returns the sentence part that says how to get the packages of an extra, e.g. `run: pip install "nncf>=2.14"`.

    Where nnsam was installed from a checkout that is still there, the extra is installed from it; else its packages by
    their own names.
    """
    source = _checkout()
    if source is not None:
        return f'run in {source}: pip install ".[{extra}]"'
    packages = " ".join(f'"{package}"' for package in _packages(extra))
    return f"run: pip install {packages}" if packages else f"install the packages of nnsam's extra {extra}"


def how_to_install_all() -> str:
    """Returns the sentence part that says how to get all that nnsam depends on, PyTorch and nnU-Net included."""
    return f"run in {_checkout() or 'a checkout of nnsam'}: pip install ."


def _checkout() -> Path | None:
    """The folder that this installation was made from (PEP 610), if it is still there."""
    try:
        text = importlib.metadata.distribution("nnsam").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    content = json.loads(text or "{}")
    if "dir_info" not in content:
        return None
    folder = Path(url2pathname(unquote(urlparse(content["url"]).path)))
    return folder if (folder / "setup.cfg").is_file() else None


def _packages(extra: str) -> list[str]:
    try:
        required = importlib.metadata.requires("nnsam") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [match for text in required if (match := _EXTRA.fullmatch(text))]
    return [match[1].replace(" ", "") for match in found if match[2] == extra]
