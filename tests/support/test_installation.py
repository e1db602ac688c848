import importlib.metadata
import json
import re

import pytest

from nnsam.support.installation import how_to_install, how_to_install_all


class Installed:
    """A stand-in for the installation's metadata."""

    def __init__(self, origin):
        self.origin = origin

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.origin


@pytest.fixture
def installed(monkeypatch):
    def make(origin):
        text = None if origin is None else json.dumps(origin)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(text))

    return make


@pytest.mark.parametrize("details", [{}, {"editable": True}])
def test_from_a_checkout_the_extra_is_installed_from_it(installed, tmp_path, details):
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "setup.cfg").touch()
    installed({"url": folder.as_uri(), "dir_info": details})
    assert how_to_install("int8") == f'run in {folder}: pip install ".[int8]"'
    assert how_to_install_all() == f"run in {folder}: pip install ."


@pytest.mark.parametrize("origin", [None, {"url": "file:///gone", "dir_info": {}}, {"url": "file:///w.whl"}])
def test_without_a_checkout_packages_are_named_that_an_index_has(installed, monkeypatch, origin):
    installed(origin)
    required = [
        "numpy>=1.24",
        'nncf>=2.14; extra == "int8"',
        "pydicom >= 3.0 ; extra == 'dicom'",
        'a<2,>=1; extra == "dicom"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: required)
    assert how_to_install("int8") == 'run: pip install "nncf>=2.14"'
    assert how_to_install("dicom") == 'run: pip install "pydicom>=3.0" "a<2,>=1"'
    assert how_to_install("ray") == "install the packages of nnsam's extra ray"
    assert how_to_install_all() == "run in a checkout of nnsam: pip install ."


def test_without_metadata_there_is_still_a_sentence(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    monkeypatch.setattr(importlib.metadata, "requires", absent)
    assert how_to_install("ray") == "install the packages of nnsam's extra ray"


def test_nothing_advises_what_is_impossible():
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    pages = [*(root / "nnsam").rglob("*.py"), *(root / "docs").rglob("*.md"), root / "README.md"]
    advice = [
        f"{page.name}: {line.strip()}"
        for page in pages
        if page.name != "installation.py"
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install [^`&#]*nnsam", line)
    ]
    assert advice == []
