import os
import warnings

import pytest

from nnsam.errors import NnsamWarning
from nnsam.inference.engine import CompiledCache, default_cache_dir


def names(folder):
    return sorted(path.stem for path in folder.iterdir())


def test_what_is_stored_is_found_again(tmp_path):
    cache = CompiledCache(tmp_path / "new" / "folder")
    assert cache.load("a") is None
    cache.store("a", lambda: b"content")
    assert CompiledCache(cache.folder).load("a") == b"content"
    assert cache.load("b") is None


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NNSAM_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "compiled"


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:10], lambda c: b"", lambda c: c[:-3] + b"xxx"])
def test_damaged_entries_count_as_absent_and_go(tmp_path, damage):
    cache = CompiledCache(tmp_path)
    cache.store("a", lambda: b"content" * 10)
    path = tmp_path / "a.blob"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("a") is None
    assert names(tmp_path) == []


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = CompiledCache(tmp_path, limit=2 * (32 + 100))
    for age, key in ((300, "a"), (200, "b")):
        cache.store(key, lambda: bytes(100))
        os.utime(tmp_path / f"{key}.blob", (1e9 - age, 1e9 - age))
    assert cache.load("a") is not None  # so b is the older one
    cache.store("c", lambda: bytes(100))
    assert names(tmp_path) == ["a", "c"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    cache = CompiledCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.store("a", interrupted)
    assert names(tmp_path) == []


def test_an_unwritable_folder_gives_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    cache = CompiledCache(tmp_path / "file" / "folder")
    with pytest.warns(NnsamWarning, match="cannot be kept in .*every start takes a little longer; set NNSAM_HOME"):
        cache.store("a", lambda: b"content")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.store("b", lambda: b"content")
        assert cache.load("b") is None
