"""Taking a local copy into the cache."""

import pytest

from nnsam.errors import WeightsError
from nnsam.weights import fetch, import_file


@pytest.fixture
def copy(tmp_path, content):
    path = tmp_path / "somewhere" / "sam.pt"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_good_file(spec, copy, content, folder, leftovers, server):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt.part").write_bytes(b"begun")
    assert import_file(str(copy), spec) == folder / "mobile_sam.pt"
    assert leftovers() == ["mobile_sam.pt"]
    copy.unlink()
    assert fetch(spec).read_bytes() == content
    assert server.requests == []


def test_cached_file_itself(spec, copy, content):
    cached = import_file(copy, spec)
    assert import_file(cached, spec) == cached
    assert cached.read_bytes() == content


def test_damaged_cached_file_is_replaced(spec, copy, content, folder):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"damaged")
    assert import_file(copy, spec).read_bytes() == content


def test_another_size(spec, copy, leftovers):
    copy.write_bytes(b"short")
    with pytest.raises(WeightsError, match=r"found 5 bytes, expected 200,000; .* NNSAM_WEIGHTS"):
        import_file(copy, spec)
    assert leftovers() == []


def test_another_content(spec, copy, content, leftovers):
    copy.write_bytes(content[::-1])
    with pytest.raises(WeightsError, match=rf"found SHA-256 [0-9a-f]{{64}}, expected {spec.sha256}; .* NNSAM_WEIGHTS"):
        import_file(copy, spec)
    assert leftovers() == []


def test_missing_and_folder(spec, tmp_path):
    with pytest.raises(WeightsError, match="missing"):
        import_file(tmp_path / "absent.pt", spec)
    with pytest.raises(WeightsError, match="is a folder"):
        import_file(tmp_path, spec)


def test_cache_that_cannot_be_written(spec, copy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NNSAM_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write to the cache folder"):
        import_file(copy, spec)
