"""What `status` says about variables, cache, broken-off downloads and an installed MobileSAM."""

import sys
from pathlib import Path

import platformdirs
import pytest

from nnsam.weights import cached_path, fetch, status


def test_nothing_yet(spec, folder, server):
    found = status(spec)
    assert (found.source, found.path, found.present, found.size) == ("none", folder / "mobile_sam.pt", False, 0)
    assert (found.sha256, found.sha256_ok, found.problem, found.partial_size) == (None, False, None, 0)
    assert found.home == folder.parent
    assert server.requests == []
    assert not folder.exists(), "asking must not make folders"


def test_cached(spec):
    path = fetch(spec)
    found = status(spec)
    assert (found.source, found.path, found.present, found.size) == ("cache", path, True, spec.size)
    assert (found.sha256, found.sha256_ok, found.problem) == (spec.sha256, True, None)


def test_damaged(spec):
    fetch(spec).write_bytes(b"damaged")
    found = status(spec)
    assert (found.present, found.sha256_ok) == (True, False)
    assert "damaged" in found.problem
    assert "nnsam weights fetch" in found.problem


def test_broken_off_download(spec, folder):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt.part").write_bytes(b"12345")
    assert status(spec).partial_size == 5


def test_variable_names_another_file(spec, tmp_path, monkeypatch):
    path = tmp_path / "tuned.pt"
    path.write_bytes(b"tuned")
    monkeypatch.setenv("NNSAM_WEIGHTS", str(path))
    found = status(spec)
    assert (found.source, found.path, found.present, found.size) == ("NNSAM_WEIGHTS", path, True, 5)
    assert (found.sha256_ok, found.problem) == (False, None)


def test_variable_names_nothing(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path / "absent.pt"))
    found = status(spec)
    assert (found.source, found.present) == ("NNSAM_WEIGHTS", False)
    assert "missing" in found.problem


def test_random(spec, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    found = status(spec)
    assert (found.source, found.random, found.path, found.present) == ("NNSAM_WEIGHTS", True, None, False)
    assert found.problem is None


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("yes", True), ("0", False), ("false", False), ("", False)]
)
def test_offline_switch(spec, monkeypatch, value, offline):
    monkeypatch.setenv("NNSAM_OFFLINE", value)
    assert status(spec).offline is offline


def test_mirror_without_password(spec, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS_URL", "https://user:secret@host.example/a.pt?token=secret")
    assert status(spec).mirror == "https://host.example/a.pt"


def test_default_home_follows_the_platform(spec, monkeypatch):
    monkeypatch.delenv("NNSAM_HOME")
    assert status(spec).home == Path(platformdirs.user_cache_dir("nnsam", appauthor=False))
    monkeypatch.setenv("NNSAM_HOME", "~/sam")
    assert cached_path(spec) == Path.home() / "sam" / "weights" / "mobile_sam.pt"


def test_copy_beside_an_installed_mobile_sam(spec, content, tmp_path, monkeypatch):
    package = tmp_path / "clone" / "mobile_sam"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    weights = tmp_path / "clone" / "weights" / "mobile_sam.pt"
    weights.parent.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "clone"))
    assert status(spec).found_elsewhere is None
    weights.write_bytes(content[::-1])
    assert status(spec).found_elsewhere is None, "what import would refuse is not to be suggested"
    weights.write_bytes(content)
    assert status(spec).found_elsewhere == weights
    assert "mobile_sam" not in sys.modules
    fetch(spec)
    assert status(spec).found_elsewhere is None
