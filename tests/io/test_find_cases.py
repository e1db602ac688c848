"""Files are sorted into the cases that nnU-Net finds; what does not fit is named in a sentence."""

import numpy as np
import pytest
from nnunetv2.utilities.utils import create_paths_fn, get_identifiers_from_splitted_dataset_folder

from nnsam.errors import InputError
from nnsam.io.finding import Case, check_channels, find_cases


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def found(folder, ending, channels):
    return {case.name: [path.name for path in case.files] for case in find_cases(folder, ending, channels)}


@pytest.mark.parametrize(
    ("ending", "channels"), [(".nii.gz", 1), (".nii.gz", 3), (".png", 1), (".png", 3), (".tif", 4), (".nrrd", 2)]
)
def test_names_by_the_book_give_nnunets_cases(tmp_path, ending, channels):
    names = ("b", "a", "a_b", "x_0000", "10", "9", "Z", "case.1")
    touch(tmp_path, *(f"{name}_{channel:04d}{ending}" for name in names for channel in range(channels)))
    touch(tmp_path, "notes.txt", "dataset.json", ".hidden" + ending)
    (tmp_path / "folder").mkdir()
    cases = found(tmp_path, ending, channels)
    (tmp_path / (".hidden" + ending)).unlink()
    identifiers = get_identifiers_from_splitted_dataset_folder(str(tmp_path), ending)
    files = sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(ending))
    lists = [create_paths_fn(str(tmp_path), files, ending, name) for name in identifiers]
    expected = {
        str(name): [path.rsplit("/", 1)[-1] for path in paths] for name, paths in zip(identifiers, lists, strict=True)
    }
    assert cases == expected
    assert list(cases) == list(expected)


def test_colour_pictures_are_one_file_each(tmp_path):
    folder = touch(tmp_path, "a_0000.png", "b_0000.png")
    assert found(folder, ".png", 3) == {"a": ["a_0000.png"], "b": ["b_0000.png"]}


def test_numbers_may_be_left_out_where_one_file_is_the_whole_image(tmp_path):
    folder = touch(tmp_path / "grey", "b.nii.gz", "a_0000.nii.gz", "ISIC_0000001.nii.gz", "patient_0007.nii.gz")
    assert list(found(folder, ".nii.gz", 1)) == ["ISIC_0000001", "a", "b", "patient_0007"]
    folder = touch(tmp_path / "colour", "img_2021.png", "img_2022.png", "c.PNG")
    assert found(folder, ".png", 3) == {
        "c": ["c.PNG"],
        "img_2021": ["img_2021.png"],
        "img_2022": ["img_2022.png"],
    }


def test_one_file_or_the_files_of_one_case(tmp_path):
    touch(tmp_path, "a_0000.mha", "a_0001.mha", "t1.mha", "t2.mha")
    a, b = tmp_path / "a_0000.mha", tmp_path / "a_0001.mha"
    assert find_cases(a, ".mha", 1) == [Case("a", (a,))]
    assert find_cases(str(a), ".mha", 1) == [Case("a", (a,))]
    assert find_cases(tmp_path / "t1.mha", ".mha", 1) == [Case("t1", (tmp_path / "t1.mha",))]
    assert find_cases([b, str(a)], ".mha", 2) == [Case("a", (a, b))]
    named = (tmp_path / "t2.mha", tmp_path / "t1.mha")
    assert find_cases(named, ".mha", 2) == [Case("t2", named)]
    assert find_cases([touch(tmp_path / "one", "c.mha")], ".mha", 1)[0].name == "c"


@pytest.mark.parametrize(
    ("names", "ending", "channels", "message"),
    [
        (["a_0000.nrrd", "a_0001.nrrd", "b_0000.nrrd"], ".nrrd", 2, "case b in .* lacks b_0001.nrrd"),
        (["a_0001.nrrd"], ".nrrd", 2, "lacks a_0000.nrrd; the model reads 2 channels"),
        (["a_0000.nrrd", "a_0001.nrrd", "a_0003.nrrd"], ".nrrd", 4, "lacks a_0002.nrrd"),
        (["a_0000.png", "a_0001.png", "a_0002.png", "b_0001.png"], ".png", 3, "lacks b_0000.png, b_0002.png"),
        (["a_0000.nrrd", "a_0001.nrrd"], ".nrrd", 1, "2 files .* append _0000 to the names"),
        (["a_0000.nrrd", "a_0001.nrrd", "a_0002.nrrd"], ".nrrd", 2, "3 files .*the model reads 2 channels; leave only"),
        (["a_0000.nrrd", "a_0001.nrrd", "b.nrrd"], ".nrrd", 2, "b.nrrd has no number .* b_0000.nrrd, b_0001.nrrd"),
        (["a.png", "a_0000.png"], ".png", 1, "both the case a"),
        (["a.png", "a.PNG"], ".png", 1, "the same channel"),
        (["a_0000.png", "a_0000.PNG"], ".png", 1, "the same channel"),
        ([], ".png", 1, "is an empty folder; the model reads files ending with .png"),
        ([".a.png"], ".png", 1, "is an empty folder"),
        (
            ["a.nii.gz", "b.nii.gz", "c.JPG", "d"],
            ".png",
            1,
            r"other endings: no ending \(1\), .jpg \(1\), .nii.gz \(2\); the model reads files ending with .png",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_told(tmp_path, names, ending, channels, message):
    with pytest.raises(InputError, match=message):
        find_cases(touch(tmp_path, *names), ending, channels)


def test_a_place_that_does_not_fit_is_told(tmp_path):
    touch(tmp_path, "a_0000.png", "b_0000.png", "c.nii", "t1.png", "t2.png")
    touch(tmp_path / "set", "x.png")
    touch(tmp_path / "outer").joinpath("imagesTs").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(tmp_path / "gone.png")
    a, b, t1, t2 = (tmp_path / f"{name}.png" for name in ("a_0000", "b_0000", "t1", "t2"))
    for paths, message in (
        (tmp_path / "nothing", "does not exist"),
        ([a, tmp_path / "nothing.png"], "nothing.png does not exist"),
        ([], "no image is given"),
        (tmp_path / "outer", r"holds only folders \(imagesTs\)"),
        (tmp_path / "c.nii", "ends with .nii; the model reads files ending with .png"),
        ([a, tmp_path / "set"], "set is a folder among other paths"),
        ([a, b], r"several cases \(a and b\)"),
        ([t1, t2], "2 files are given for one case"),
        ([a, t1], "2 files are given for one case"),
        ([a, a], "the same channel"),
        ([t1, t1], "give each of these once"),
        (tmp_path / "links", "a link to a file that does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            find_cases(paths, ".png", 1)


@pytest.mark.parametrize(
    ("found", "expected", "files", "message"),
    [
        (4, 3, ["a.png"], "has 4 channels, the model reads 3; save the picture without its alpha"),
        (3, 1, ["a.png"], "has 3 channels, the model reads 1; save it as grey"),
        (1, 3, ["a.png"], r"has 1 channel, the model reads 3; save the picture in colour \(RGB\)"),
        (1, 4, ["a_0000.nii.gz"], "give one file per channel, a_0000 to a_0003"),
        (4, 2, ["a_0000.nii.gz"], "give only the channels"),
        (9, 3, ["a_0000.png", "a_0001.png", "a_0002.png"], r"\(a_0000.png, a_0001.png, a_0002.png\) has 9 channels"),
    ],
)
def test_the_number_of_channels_is_checked(tmp_path, found, expected, files, message):
    case = Case("a", tuple(tmp_path / name for name in files))
    check_channels(np.zeros((expected, 1, 2, 2)), expected, case)
    with pytest.raises(InputError, match=message):
        check_channels(np.zeros((found, 1, 2, 2)), expected, case)
