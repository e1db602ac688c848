"""nnU-Net's three folders, which environment variables name, and paths whose variable was not set."""

import importlib.util
import os
import re
from pathlib import Path

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")

# What a shell makes of $nnUNet_raw/Dataset001_Heart where the variable is unset, and what it leaves as it is in quotes.
_NOTHING = re.compile(r"(/Dataset\d{3}_[^/]*)")
_UNEXPANDED = re.compile(rf"[$%]\{{?({'|'.join(NNUNET_FOLDERS)})\b")


def fold_hint(folder: Path) -> str:
    """Returns the sentence to add where a folder lies in a model folder, as fold_0 does; empty elsewhere."""
    model = folder.absolute().parent
    return f"; it is a fold: give its parent folder, {model}" if (model / "plans.json").is_file() else ""


def unset_variable(path: str) -> str | None:
    """Tells what is wrong with a path that was to begin with a variable of nnU-Net's; None where nothing is."""
    unexpanded = _UNEXPANDED.match(path)
    if unexpanded and not Path(path).exists():
        name = unexpanded[1]
        state = "is set, but" if os.environ.get(name) else "is not set, and"
        return f'found the path {path}: {name} {state} the shell did not put its value there; quote it with " or not'
    root, unset = _NOTHING.match(path), [name for name in NNUNET_FOLDERS if not os.environ.get(name)]
    if root and unset and not Path(root[1]).exists():
        return (
            f"found the path {path} in the root folder, as if a variable before it were not set (not set are "
            f"{', '.join(unset)}); export it first, e.g. export {unset[0]}=FOLDER"
        )
    return None


def unset_variable_of_output(path: str) -> str | None:
    """Tells that an output would become a new entry of the root folder, as $nnUNet_results/bundle does, unset.

    Where all of nnU-Net's variables are set, the entry is there, or nnU-Net is not installed (a container that only
    predicts, with -o /out), it is the user's business: None.
    """
    unset = [name for name in reversed(NNUNET_FOLDERS) if not os.environ.get(name)]
    parts = Path(path).parts
    if not unset or len(parts) < 2 or parts[0] != "/" or Path(*parts[:2]).exists():
        return None
    try:
        if importlib.util.find_spec("nnunetv2") is None:
            return None
    except (ImportError, ValueError):  # what stands in its way
        return None
    return (
        f"found the output {path} in the root folder, which has no {parts[1]}, as if a variable before it were not set "
        f"(not set are {', '.join(unset)}); export it first, e.g. export {unset[0]}=FOLDER, or choose an output in a "
        "folder that exists"
    )
