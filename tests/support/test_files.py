import os

import pytest

from nnsam.errors import InputError
from nnsam.support.files import atomic_file, atomic_folder


def test_folder_appears_only_when_the_block_has_ended(tmp_path):
    target = tmp_path / "new" / "result"
    with atomic_folder(target) as draft:
        (draft / "a.txt").write_text("a")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a.txt"]
    assert list(target.parent.iterdir()) == [target]


def write_half_a_folder(target, error):
    with atomic_folder(target) as draft:
        (draft / "half.txt").write_text("half")
        raise error


def write_half_a_file(target, error):
    with atomic_file(target) as draft:
        draft.write_text("half")
        raise error


@pytest.mark.parametrize("write", [write_half_a_folder, write_half_a_file])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_after_an_interruption(tmp_path, write, error):
    with pytest.raises(error):
        write(tmp_path / "result", error)
    assert list(tmp_path.iterdir()) == []


def test_empty_folder_is_taken_over_and_a_full_one_refused(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    with atomic_folder(target) as draft:
        (draft / "a.txt").write_text("a")
    with pytest.raises(InputError, match="already exists"):
        with atomic_folder(target):
            pytest.fail("the block must not run")
    assert (target / "a.txt").read_text() == "a"


def test_folder_has_the_users_usual_mode(tmp_path):
    (tmp_path / "usual").mkdir()
    with atomic_folder(tmp_path / "result"):
        pass
    assert os.stat(tmp_path / "result").st_mode == os.stat(tmp_path / "usual").st_mode


def test_failed_file_leaves_the_old_content(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError):
        write_half_a_file(target, RuntimeError)
    assert target.read_text() == "old"
    with atomic_file(target) as draft:
        assert draft.suffix == ".json"
        draft.write_text("new")
    assert target.read_text() == "new"


def test_places_that_cannot_be_written_to_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        with atomic_folder(tmp_path / "file" / "result"):
            pass
    with pytest.raises(InputError, match="cannot be written"):
        with atomic_file(tmp_path / "file" / "a.json"):
            pass
    with pytest.raises(InputError, match="is a folder"):
        with atomic_file(tmp_path):
            pass
