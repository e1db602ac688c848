"""One table of formats, and one rule for the names of outputs."""

from pathlib import Path

import pytest

from nnsam.io import reading, writing
from nnsam.io.finding import group_channels, split_channel, visible
from nnsam.io.formats import FORMATS, beside, format_of, label_ending, label_endings


def test_every_format_has_what_the_table_promises():
    assert {row.kind for row in FORMATS.values() if row.holds_images} <= reading._IMAGES.keys()
    assert {row.kind for row in FORMATS.values() if row.holds_labels} <= {*reading._LABELS, "npz"}
    for row in FORMATS.values():
        assert FORMATS[row.label_ending].is_written, row.ending
        assert FORMATS[row.label_ending].holds_labels, row.ending
        assert row.label_ending in label_endings(row.kind)
        assert label_ending(row.kind, row.ending) == row.label_ending
        assert not row.is_written or row.kind in ("picture", "tiff", "volume", "npz", "dicom")
    assert callable(writing.write_labels)


@pytest.mark.parametrize(
    ("name", "ending"), [("a.NII.GZ", ".nii.gz"), ("a.b.tiff", ".tiff"), ("a.nii", ".nii"), ("a.gz", None), ("a", None)]
)
def test_formats_are_found_by_the_ending(name, ending):
    found = format_of(Path("folder.png") / name)
    assert (found and found.ending) == ending


def test_further_files_are_named_after_the_output():
    assert beside(Path("x/a.b.nii.gz"), ".nii.gz", ".npz") == Path("x/a.b.npz")
    assert beside(Path("x/a.PNG"), ".png", "_overlay.png") == Path("x/a_overlay.png")


def test_channels_are_grouped_and_other_names_are_handed_back(tmp_path):
    for name in ("b_0001.png", "b_0000.png", "a_01_0000.png", "c.png", "d_0000.txt", ".e_0000.png"):
        (tmp_path / name).touch()
    cases, others = group_channels(visible(tmp_path), ".png")
    assert {case: {channel: path.name for channel, path in files.items()} for case, files in cases.items()} == {
        "a_01": {0: "a_01_0000.png"},
        "b": {0: "b_0000.png", 1: "b_0001.png"},
    }
    assert [path.name for path in others] == ["c.png", "d_0000.txt"]
    assert visible(tmp_path / "absent") == []
    assert [split_channel(stem) for stem in ("_0000", "a_000", "a_00000", "a_0012")] == [None, None, None, ("a", 12)]
