import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.support.files import (
    JSON_BYTES,
    atomic_file,
    atomic_folder,
    load_json,
    parse_json,
    read_json,
    replaced_folder,
    sha256_of_file,
    write_json,
)


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


def write_half_a_replacement(target, error):
    with replaced_folder(target) as draft:
        (draft / "half.txt").write_text("half")
        raise error


@pytest.mark.parametrize("write", [write_half_a_folder, write_half_a_replacement, write_half_a_file])
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


def test_a_full_folder_is_replaced_when_the_block_has_ended_well(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half_a_replacement(target, KeyboardInterrupt)
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    with replaced_folder(target) as draft:
        (draft / "new.txt").write_text("new")
        assert (target / "old.txt").exists()
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    target = tmp_path / "result"
    target.mkdir()
    (target / "old.txt").write_text("old")
    move = os.replace

    def stubborn(source, destination):
        if Path(source).name == ".new" and Path(destination) == target:
            raise PermissionError(13, "in use")
        move(source, destination)

    monkeypatch.setattr("nnsam.support.files.exchange", lambda first, second: False)
    monkeypatch.setattr(os, "replace", stubborn)
    with pytest.raises(InputError, match="cannot be replaced"):
        with replaced_folder(target):
            pass
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_there_and_back(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": [1, 2.5]})
    assert path.read_bytes() == b'{\n "\\u00e9": [\n  1,\n  2.5\n ]\n}\n'
    assert read_json(path, "expected anything") == {"é": [1, 2.5]}
    write_json(path, {}, indent=4, end="")
    assert path.read_bytes() == b"{}"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"), allow_nan=False)
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", None])
def test_json_that_cannot_be_read_is_told_with_what_was_expected(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json cannot be read as JSON \(.+\); write it again"):
        read_json(path, "write it again")


def test_a_missing_json_file_has_a_sentence_of_its_own(tmp_path):
    with pytest.raises(InputError, match=r"^make one$"):
        read_json(tmp_path / "a.json", "write it again", missing="make one")


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"ab" * 1_000_000)
    assert sha256_of_file(path) == hashlib.sha256(b"ab" * 1_000_000).hexdigest()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"ä": [1]}', encoding=encoding)
    assert read_json(tmp_path / "a.json", "write it again") == {"ä": [1]}


def test_text_of_another_encoding_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"ä": [1]}', encoding="utf-16")
    with pytest.raises(InputError, match=r"a\.json cannot be read as JSON \(its text is not in UTF-8\)"):
        read_json(tmp_path / "a.json", "write it again")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(10)
    assert received == ['{\n "a": 1\n}\n']
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_stays_a_device():
    write_json("/dev/null", {"a": 1})
    assert Path("/dev/null").is_char_device()


def test_nothing_reaches_a_pipe_when_the_block_fails(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write_half():
        with atomic_file(pipe) as draft:
            draft.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
@pytest.mark.parametrize("target", ["pipe", "file"])
def test_standard_output_by_its_name_is_written_to(tmp_path, target):
    code = "from nnsam.support.files import write_json; print('before', flush=True); write_json('/dev/stdout', [1])"
    link = os.readlink("/dev/stdout")
    with (tmp_path / "out").open("wb") as file:
        stdout = file if target == "file" else subprocess.PIPE
        run = subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True)
    found = (tmp_path / "out").read_text() if target == "file" else run.stdout.decode()
    assert found == "before\n[\n 1\n]\n"
    assert os.readlink("/dev/stdout") == link


HOSTILE = {
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "101 levels": "[" * 101 + "]" * 101,
    "a huge number": '{"a": ' + "9" * 100_000 + "}",
    "a large number": "[" + "9" * 41 + "]",
    "other text": b"\xff\xfe\x00" * 5000,
    "no JSON": "x" * 1_000_000,
    "an open text": '"' + "x" * 1_000_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_told_in_a_short_sentence(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"a\.json cannot be read as JSON \(.+\); write it again") as raised:
        read_json(path, "write it again")
    assert len(str(raised.value)) < 600
    with pytest.raises(ValueError):  # noqa: PT011 - whatever json says
        load_json(path)


def test_long_json_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(JSON_BYTES + 1)
    with pytest.raises(InputError, match="longer than 64 MiB"):
        read_json(tmp_path / "a.json", "write it again")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**38), 10**38) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=300,
    )
)
def test_what_json_holds_is_parsed_as_json_parses_it(content):
    text = json.dumps(content)
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


def test_brackets_in_texts_are_no_levels():
    content = {'"[[[\\' * 200: ["[{" * 500, {"\\": "}" * 300}]}
    assert parse_json(json.dumps(content)) == content
    deepest = "[" * 100 + "]" * 100
    assert parse_json(deepest) == json.loads(deepest)


def test_of_two_programs_that_make_a_folder_the_second_is_told(tmp_path):
    target = tmp_path / "set"

    def make_while_another_does():
        with atomic_folder(target) as draft:
            (draft / "a.txt").write_text("second")
            with atomic_folder(target) as other:
                (other / "a.txt").write_text("first")

    with pytest.raises(InputError, match="another program"):
        make_while_another_does()
    assert (target / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
