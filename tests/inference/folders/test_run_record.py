"""The record of a folder run: what counts as done, and what a kill leaves."""

import hashlib
import json
import os

import pytest

from nnsam.errors import InputError
from nnsam.inference.folders import record as run_record
from nnsam.inference.folders.record import RECORD, RunRecord, describe_file, describe_inputs, has_record, output_name

SETTINGS = {"precision": "f32", "folds": ["0"], "step": 0.5}


@pytest.fixture
def files(tmp_path):
    image, mask = tmp_path / "a_0000.png", tmp_path / "out" / "a.png"
    mask.parent.mkdir()
    image.write_bytes(b"image")
    mask.write_bytes(b"mask")
    return image, mask


def describe_outputs(paths, folder):
    return {output_name(path, folder): describe_file(path) for path in paths}


def record_of(files, settings=SETTINGS, bundle="digest"):
    return RunRecord(files[1].parent, bundle, settings)


def resumed(files, **changes):
    record = record_of(files, **changes)
    record.resume()
    return record


def written(files):
    image, mask = files
    record = record_of(files)
    record.add("a", describe_outputs([mask], mask.parent), describe_inputs([image]))
    record.flush()
    return record


def is_done(record, files):
    return record.is_done("a", [files[1]], [files[0]])


def test_descriptions(files):
    image, mask = files
    digest = "48bf9b4f142ab45cac6f33cf99415bca6ca8e07608a031237aa76560fec2204b"  # printf mask | sha256sum
    assert describe_outputs([mask], mask.parent) == {"a.png": {"sha256": digest, "size": 4}}
    assert describe_inputs([image]) == {
        "a_0000.png": {
            "sha256": hashlib.sha256(b"image").hexdigest(),
            "path": str(image),
            "size": 5,
            "modified": image.stat().st_mtime_ns,
            "changed": image.stat().st_ctime_ns,
            "number": image.stat().st_ino,
        }
    }


def test_inputs_count_by_what_they_hold(files):
    """Copied, touched or moved, they are the same; with another content of the same size and time, elsewhere, not."""
    written(files)
    image, mask = files
    stamp = image.stat().st_mtime_ns
    os.utime(image, ns=(1, 1))
    assert is_done(resumed(files), files)
    moved = image.parent / "elsewhere" / image.name
    moved.parent.mkdir()
    image.rename(moved)
    assert is_done(resumed(files), (moved, mask))
    moved.write_bytes(b"IMAGE")
    os.utime(moved, ns=(stamp, stamp))
    assert not is_done(resumed(files), (moved, mask))


def test_a_record_of_an_earlier_version_is_read(files):
    written(files)
    path = files[1].parent / RECORD
    content = json.loads(path.read_text())
    del content["written"]
    for name in ("sha256", "path"):
        del content["cases"]["a"]["inputs"]["a_0000.png"][name]
    path.write_text(json.dumps(content))
    assert is_done(resumed(files, settings={**SETTINGS, "threads": 0}), files)
    with pytest.raises(InputError, match="threads 0 there and 2 now"):
        resumed(files, settings={**SETTINGS, "threads": 2})
    os.utime(files[0], ns=(1, 1))
    assert not is_done(resumed(files), files)


@pytest.mark.parametrize(
    ("header", "text", "data"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = b.raw\n", ["b.raw"]),
        ("a.mhd", "ElementDataFile : b.raw\n", ["b.raw"]),
        ("a.mhd", "ElementDataFile = LIST\ns1.raw\ns2.raw\n", ["s1.raw", "s2.raw"]),
        ("a.mhd", "ElementDataFile = s%d.raw 0 2 1\n", ["s0.raw", "s1.raw", "s2.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: a.raw.gz\n", ["a.raw.gz"]),
        ("a.nhdr", "NRRD0004\ndata file:=decoy\ndata file: a.raw\n", ["a.raw"]),
        ("a.nhdr", "NRRD0004\n" + "# comment\n" * 7000 + "data file: a.raw\n", ["a.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: s%02d.raw 1 2 1\n", ["s01.raw", "s02.raw"]),
        ("a.hdr", "", ["a.img"]),
        ("a.png", "ElementDataFile = b.raw\n", []),
    ],
)
def test_files_that_a_header_names_are_inputs_too(files, header, text, data):
    image, mask = files[0].with_name(header), files[1]
    image.write_text(text)
    for name in data:
        image.with_name(name).write_bytes(b"1")
    record = record_of(files)
    inputs = describe_inputs([image])
    assert sorted(inputs) == sorted([header, *data])
    record.add("a", describe_outputs([mask], mask.parent), inputs)
    assert record.is_done("a", [mask], [image])
    for name in data:
        image.with_name(name).write_bytes(b"2")
        assert not record.is_done("a", [mask], [image])
        image.with_name(name).write_bytes(b"1")


def test_inputs_of_equal_names_are_kept_apart(files):
    """As those of a DICOM series in several folders."""
    image, mask = files
    other = image.parent / "other" / image.name
    other.parent.mkdir()
    other.write_bytes(b"2")
    record = record_of(files)
    inputs = describe_inputs([image, other])
    assert len(inputs) == 2
    record.add("a", describe_outputs([mask], mask.parent), inputs, prompts=[1])
    assert record.is_done("a", [mask], [image, other], prompts=[1])
    assert not record.is_done("a", [mask], [image, other], prompts=[2])
    assert not record.is_done("a", [mask], [image, other], unknown=None)
    other.write_bytes(b"3")
    assert not record.is_done("a", [mask], [image, other])


def test_outputs_in_folders_are_told_apart(files):
    mask = files[1]
    overlay = mask.parent / "overlays" / mask.name
    overlay.parent.mkdir()
    overlay.write_bytes(b"picture")
    assert sorted(describe_outputs([mask, overlay], mask.parent)) == ["a.png", "overlays/a.png"]


def test_what_a_killed_run_was_going_to_write_is_its_own(files):
    record, mask = record_of(files), files[1]
    assert not record.has_written(mask)
    record.note("a.png", describe_file(mask))
    assert record_of(files).has_written(mask)
    mask.write_bytes(b"by hand")
    assert not record_of(files).has_written(mask)
    mask.write_bytes(b"mask")
    written(files).close()
    assert not list(mask.parent.glob(".*"))
    assert record_of(files).has_written(mask)
    mask.write_bytes(b"by hand")
    assert not record_of(files).has_written(mask)


def test_what_an_interrupted_case_has_written_is_own(files):
    mask = files[1]
    record = record_of(files)
    record.note("a.png", describe_file(mask))
    record.note("b.png", describe_file(mask))  # which did not appear any more
    record.close()
    assert not list(mask.parent.glob(".*"))
    assert record_of(files).has_written(mask)
    mask.with_name("b.png").write_bytes(b"by hand")
    assert not record_of(files).has_written(mask.with_name("b.png"))


def test_what_workers_were_to_write_is_own_until_their_run_has_ended(files):
    mask = files[1]
    other = mask.with_name("b.png")
    record = record_of(files)
    record.expect([mask, other])
    assert not record_of(files).has_written(mask)  # it was there before
    other.write_bytes(b"of a worker that was not heard of any more")
    assert record_of(files).has_written(other)  # the run was killed
    record_of(files).close()
    assert not record_of(files).has_written(other)
    other.unlink()
    record = record_of(files)
    record.expect([other])
    other.write_bytes(b"of a worker that was ended by Ctrl-C")
    record.close()
    assert not list(mask.parent.glob(".*"))
    assert record_of(files).has_written(other)
    other.write_bytes(b"by hand")
    assert not record_of(files).has_written(other)


def test_earlier_outputs_stay_known_and_what_a_case_has_no_more_is_removed(files):
    image, mask = files
    first, second = mask.with_name("a_1.png"), mask.with_name("a_2.png")
    for path in (first, second):
        path.write_bytes(path.name.encode())
    record = record_of(files)
    record.add("a", describe_outputs([first, second, mask], mask.parent), describe_inputs([image]))
    record.close()
    record = record_of(files)
    record.add("b", {}, {})
    record.close()
    assert all(record_of(files).has_written(path) for path in (mask, first, second))
    second.write_bytes(b"by hand")
    record = record_of(files)
    record.add("a", describe_outputs([first], mask.parent), describe_inputs([image]))
    record.close()
    # The record of the run between did not hold the case, so that nothing was known to be its.
    assert (mask.exists(), first.exists(), second.exists()) == (True, True, True)
    record = record_of(files)
    record.add("a", describe_outputs([mask], mask.parent), describe_inputs([image]))
    record.close()
    assert (mask.exists(), first.exists(), second.exists()) == (True, False, True)


def test_nothing_outside_the_folder_is_removed_and_no_pipe_read(files):
    image, mask = files
    record = record_of(files)
    record.add("a", {"../a_0000.png": describe_file(image), "a.png": describe_file(mask)}, {})
    record.close()
    record = record_of(files)
    record.add("a", {"a.png": describe_file(mask)}, {})
    assert image.exists()
    os.mkfifo(mask.with_name("pipe"))
    with pytest.raises(OSError, match="is no file"):
        describe_outputs([mask.with_name("pipe")], mask.parent)
    path = mask.with_name(RECORD)
    path.unlink()
    os.mkfifo(path)
    assert not has_record(mask.parent)
    os.mkfifo(mask.with_name(".nnsam_predict.journal"))
    with pytest.raises(InputError, match=r"journal"):
        record.note("a.png", describe_file(mask))


def test_channels_have_an_order(files):
    image, mask = files
    other = image.with_name("a_0001.png")
    other.write_bytes(b"2")
    record = record_of(files)
    record.add("a", describe_outputs([mask], mask.parent), describe_inputs([image, other]))
    record.close()
    assert resumed(files).is_done("a", [mask], [image, other])
    assert not resumed(files).is_done("a", [mask], [other, image])


def test_an_image_that_was_replaced_with_size_and_time_kept_is_another(files):
    written(files).close()
    image = files[0]
    status = image.stat()
    image.write_bytes(b"IMAGE")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not is_done(resumed(files), files)


def test_a_written_record_is_taken_over(files):
    written(files)
    assert is_done(resumed(files), files)
    assert has_record(files[1].parent)


def test_nothing_is_done_without_a_record(files):
    assert not is_done(resumed(files), files)
    assert not has_record(files[1].parent)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image, mask: mask.write_bytes(b"mas"),
        lambda image, mask: mask.write_bytes(b"mast"),
        lambda image, mask: mask.unlink(),
        lambda image, mask: (mask.unlink(), mask.mkdir()),
        lambda image, mask: image.write_bytes(b"other image"),
        lambda image, mask: image.unlink(),
    ],
)
def test_changed_files_are_not_done(files, spoil):
    written(files)
    spoil(*files)
    assert not is_done(resumed(files), files)


def test_an_output_more_or_less_is_not_done(files):
    written(files)
    image, mask = files
    other = mask.with_suffix(".npz")
    other.write_bytes(b"1")
    assert not resumed(files).is_done("a", [mask, other], [image])
    assert not resumed(files).is_done("a", [], [image])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bundle": "other"}, "the model digest there and other now"),
        ({"settings": {**SETTINGS, "precision": "bf16"}}, "precision 'f32' there and 'bf16' now"),
        ({"settings": {**SETTINGS, "new": 1}}, "new None there and 1 now"),
    ],
)
def test_another_model_or_other_settings_are_refused(files, changes, words):
    written(files)
    with pytest.raises(InputError, match=words):
        resumed(files, **changes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1]",
        lambda text: json.dumps({**json.loads(text), "format": "something"}),
        lambda text: json.dumps({**json.loads(text), "format_version": 2}),
        lambda text: json.dumps({**json.loads(text), "cases": {"a": 1}}),
        lambda text: json.dumps({**json.loads(text), "settings": None}),
    ],
)
def test_a_damaged_record_holds_nothing(files, spoil):
    written(files)
    path = files[1].parent / RECORD
    path.write_text(spoil(path.read_text()))
    assert not is_done(resumed(files), files)


def test_a_long_record_is_not_rewritten_all_the_time_but_at_the_end(files, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 1.0  # writing takes a second on this clock
        return now[0]

    monkeypatch.setattr(run_record.time, "monotonic", clock)
    record, path = record_of(files), files[1].parent / RECORD
    writes = 0
    for number in range(100):
        before = path.stat().st_mtime_ns if path.exists() else None
        record.add(f"case{number}", {}, {})
        writes += path.stat().st_mtime_ns != before
    assert 1 <= writes < 20
    record.flush()
    assert len(json.loads(path.read_text())["cases"]) == 100


def test_a_record_that_cannot_be_written_is_one_sentence(files, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(InputError, match=r"nnsam_predict\.json cannot be written \(No space left"):
        written(files)
    assert [path.name for path in files[1].parent.iterdir()] == ["a.png"]
