"""The check over all files of a run."""

import json
import os
from pathlib import Path

import pytest

from nnsam.errors import InputError
from nnsam.support import outputs
from nnsam.support.outputs import check_outputs, is_report


def test_inputs_and_other_outputs_are_not_overwritten(tmp_path):
    a, b, one, other = (tmp_path / name for name in ("a.png", "b.png", "x/one.bmp", "y/one.bmp"))
    check_outputs([(one, a), (one, a), (other, b)], [tmp_path / "c.png"])
    with pytest.raises(InputError, match=r"a\.png is an image and would be overwritten"):
        check_outputs([(other, b), (one, tmp_path / "x" / ".." / "a.png")], [a], "an image")
    with pytest.raises(InputError, match=r"one\.bmp and one\.bmp would both be written to .*a\.png"):
        check_outputs([(one, a), (other, a)], [])


@pytest.mark.parametrize("how", ["symbolic", "hard", "folder"])
def test_links_lead_to_the_same_file(tmp_path, how):
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    image.touch()
    output = tmp_path / "b.png"
    if how == "symbolic":
        output.symlink_to(image)
    elif how == "hard":
        os.link(image, output)
    else:
        (tmp_path / "link").symlink_to(image.parent)
        output = tmp_path / "link" / "a.png"
    with pytest.raises(InputError, match="would be overwritten"):
        check_outputs([("--json", output)], [image])


def test_links_to_nothing_yet_meet_too(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "new.json")
    with pytest.raises(InputError, match="--json and --csv would both be written to"):
        check_outputs([("--json", tmp_path / "new.json"), ("--csv", tmp_path / "link.json")], [])


@pytest.mark.parametrize("ignores", [True, False])
def test_letters_count_where_they_count_to_the_disk(tmp_path, monkeypatch, ignores):
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: ignores)
    pair = [("a", tmp_path / "out" / "Mask.png"), ("b", tmp_path / "out" / "mask.PNG")]
    if ignores:
        with pytest.raises(InputError, match="both be written"):
            check_outputs(pair, [])
    else:
        check_outputs(pair, [])


def test_whether_letters_count_is_asked_of_the_disk(tmp_path, monkeypatch):
    assert outputs._ignores_case(tmp_path) is (tmp_path.with_name(tmp_path.name.swapcase())).exists()
    (tmp_path / "folder").mkdir()
    (tmp_path / "FOLDER").symlink_to(tmp_path / "folder")  # as such a disk shows it
    assert outputs._ignores_case(tmp_path / "folder")


def test_devices_and_standard_output_may_be_named_twice(tmp_path):
    check_outputs([("--json", "/dev/null"), ("--csv", "/dev/null"), ("a", "-"), ("b", "-"), ("c", None)], ["/dev/null"])


def test_nothing_is_written_into_a_model(tmp_path):
    (tmp_path / "bundle").mkdir()
    check_outputs([("--json", tmp_path / "a.json")], [], models=[tmp_path / "bundle", tmp_path / "none"])
    with pytest.raises(InputError, match="lies in the model"):
        check_outputs([("-o", tmp_path / "bundle" / "new" / "a.png")], [], models=[tmp_path / "bundle"])


def test_existing_files_need_to_be_own_or_overwrite(tmp_path):
    names = [tmp_path / name for name in ("a", "b", "c")]
    for path in names[:2]:
        path.touch()
    pairs = [(path, path) for path in names]
    check_outputs(pairs, [], overwrite=True)
    check_outputs(pairs, [], overwrite=False, is_own=lambda path: True)
    with pytest.raises(InputError, match=r"a \(and 1 more\) exist already; replace them with --overwrite, or choose"):
        check_outputs(pairs, [], overwrite=False)
    with pytest.raises(InputError, match=r"b exists already; replace it with --overwrite, or choose another output\."):
        check_outputs(pairs, [], overwrite=False, is_own=lambda path: path.name == "a")
    with pytest.raises(InputError, match=r"exist, and no record says that this command wrote them; .*--overwrite"):
        check_outputs(pairs, [], overwrite=False, has_record=True)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', "[" * 100_000, None])
def test_other_files_are_no_reports(tmp_path, content):
    path = Path(tmp_path, "a.json")
    if content is not None:
        path.write_text(content)
    assert not is_report(path, ["a", "b"])
    path.write_text(json.dumps({"a": 1, "b": 2, "c": 3}))
    assert is_report(path, ["a", "b"])
