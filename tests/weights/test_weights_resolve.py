"""Which weights a new network gets."""

import hashlib
import subprocess
import sys
import warnings

import pytest
from helpers.checkpoint_server import Reply

from nnsam.errors import NnsamWarning, WeightsError
from nnsam.weights import WeightsSource, fetch, resolve


@pytest.fixture(autouse=True)
def only_expected_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_downloads_what_is_missing(spec, folder, server):
    expected = WeightsSource("official", folder / "mobile_sam.pt", spec.sha256)
    assert resolve(spec) == expected
    assert resolve(spec) == expected
    assert len(server.requests) == 1


def test_empty_variable_counts_as_unset(spec, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", "")
    assert resolve(spec).kind == "official"


def test_offline_without_weights_lists_the_ways(spec, server, monkeypatch):
    monkeypatch.setenv("NNSAM_OFFLINE", "1")
    with pytest.raises(WeightsError) as error:
        resolve(spec)
    for way in ("nnsam weights fetch", "nnsam weights import FILE", "NNSAM_WEIGHTS", "`random`", "NNSAM_OFFLINE"):
        assert way in str(error.value)
    assert server.requests == []


def test_offline_with_cached_weights(spec, monkeypatch):
    fetch(spec)
    monkeypatch.setenv("NNSAM_OFFLINE", "1")
    assert resolve(spec).kind == "official"


def test_failed_download_lists_the_ways(spec, server):
    server.script = [Reply(status=404)]
    with pytest.raises(WeightsError, match=r"404.*--mirror.*weights import FILE.*NNSAM_WEIGHTS.*`random`"):
        resolve(spec)


def test_damaged_cache_is_never_used(spec, server):
    fetch(spec).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"is damaged.*replace it with `nnsam weights fetch`"):
        resolve(spec)
    assert len(server.requests) == 1
    fetch(spec)
    assert resolve(spec).kind == "official"


def test_random(spec, server, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    with pytest.warns(NnsamWarning, match="random weights"):
        assert resolve(spec) == WeightsSource("random", None, None)
    assert server.requests == []


def test_path_of_the_official_file(spec, content, tmp_path, monkeypatch):
    path = tmp_path / "copy.pt"
    path.write_bytes(content)
    monkeypatch.setenv("NNSAM_WEIGHTS", str(path))
    assert resolve(spec) == WeightsSource("official", path, spec.sha256)


def test_path_of_another_file(spec, tmp_path, monkeypatch):
    (tmp_path / "tuned.pt").write_bytes(b"tuned")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NNSAM_WEIGHTS", "tuned.pt")
    with pytest.warns(NnsamWarning, match="not the official"):
        source = resolve(spec)
    assert source.kind == "custom"
    assert source.path == tmp_path / "tuned.pt"
    assert source.sha256 == hashlib.sha256(b"tuned").hexdigest()


def test_path_of_nothing(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path / "absent.pt"))
    with pytest.raises(WeightsError, match=r"absent\.pt is missing: expected the path"):
        resolve(spec)
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="is a folder"):
        resolve(spec)


def test_importing_the_package_is_light():
    program = "import sys, nnsam.weights; print(sorted({'torch', 'requests', 'pooch', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
