"""Folders of images and masks as raw nnU-Net data sets."""

import json

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nnsam.cli.main import main
from nnsam.datasets.images import MASK_WORDS, convert_images
from nnsam.errors import InputError
from nnsam.io import read_image, read_labels

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
MASK = np.zeros((6, 8), np.uint8)
MASK[1:3, 2:6] = 1
MASK[4, 4:] = 2


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    return tmp_path / "images", tmp_path / "masks"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "Dataset101_Test"


def fill(folders, pairs, image=GREY, mask=MASK):
    for image_name, mask_name in pairs:
        Image.fromarray(image).save(folders[0] / image_name)
        Image.fromarray(mask).save(folders[1] / mask_name)


@pytest.mark.parametrize(
    ("image", "mask", "case"),
    [
        ("a.png", "a.png", "a"),
        ("a.jpg", "a_mask.png", "a"),
        ("ISIC_0001.jpg", "ISIC_0001_Segmentation.png", "ISIC_0001"),
        ("benign (1).png", "benign (1)_mask.png", "benign (1)"),
        ("21_training.tif", "21_manual1.png", "21_training"),
        ("img_7.png", "mask_7.png", "img_7"),
        ("a.png", "A-GT.png", "a"),
        ("a_0000.png", "a.png", "a"),
        ("scan.1.png", "scan.1_label.tif", "scan.1"),
    ],
)
def test_names_match_apart_from_words_for_masks(folders, target, image, mask, case):
    fill(folders, [(image, mask)])
    result = convert_images(*folders, target)
    assert result.cases == (case,)
    np.testing.assert_array_equal(read_labels(target / "labelsTr" / f"{case}.png").pixels, MASK)
    np.testing.assert_array_equal(
        read_image(target / "imagesTr" / f"{case}_0000.png").pixels, read_image(folders[0] / image).pixels
    )
    content = json.loads((target / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "label_1": 1, "label_2": 2}
    assert (content["numTraining"], content["file_ending"], content["channel_names"]) == (1, ".png", {"0": "image"})


@settings(max_examples=10, deadline=None)
@given(
    names=st.lists(st.from_regex(r"[a-z]{1,4}[0-9]{1,3}", fullmatch=True), min_size=1, max_size=6, unique=True),
    word=st.sampled_from(["", *(f"_{word}" for word in MASK_WORDS)]),
)
def test_each_image_gets_its_own_mask(tmp_path_factory, names, word):
    root = tmp_path_factory.mktemp("match")
    folders = root / "i", root / "m"
    for folder in folders:
        folder.mkdir()
    for value, name in enumerate(names, 1):
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(folders[0] / f"{name}.png")
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(folders[1] / f"{name}{word}.png")
    result = convert_images(*folders, root / "Dataset101_Test")
    assert sorted(result.cases) == sorted(names)
    for name in names:
        image = read_image(root / "Dataset101_Test" / "imagesTr" / f"{name}_0000.png").pixels
        np.testing.assert_array_equal(read_labels(root / "Dataset101_Test" / "labelsTr" / f"{name}.png").pixels, image)


def test_images_and_masks_may_share_a_folder(tmp_path, target):
    for name in ("a", "b"):
        Image.fromarray(GREY).save(tmp_path / f"{name}.png")
        Image.fromarray(MASK).save(tmp_path / f"{name}_mask.png")
    assert convert_images(tmp_path, tmp_path, target).cases == ("a", "b")


def test_values_become_labels_without_gaps(folders, target, capsys):
    fill(folders, [("a.png", "a.png")], mask=(MASK > 0).astype(np.uint8) * 255)
    result = convert_images(*folders, target)
    assert result.labels == {"background": 0, "object": 1}
    assert result.notes == ("The masks hold 0 and 255, written as 0 and 1.",)
    np.testing.assert_array_equal(read_labels(target / "labelsTr" / "a.png").pixels, MASK > 0)
    fill(folders, [("a.png", "a.png")], mask=MASK * 100)
    command = ["convert", "images", *map(str, folders), "-o", str(target.with_name("Dataset102_Test"))]
    assert main([*command, "--labels", "100=disc,200=cup"]) == 0
    output = capsys.readouterr().out
    assert "Note: nnU-Net needs labels 1, 2, 3, ... without gaps: 100 is 1, 200 is 2." in output
    assert "1 cases of 1 patients; disc=1, cup=2." in output
    np.testing.assert_array_equal(read_labels(target.with_name("Dataset102_Test") / "labelsTr" / "a.png").pixels, MASK)


def test_one_colour_picture_makes_all_of_them_colour(folders, target):
    fill(folders, [("a.png", "a.png")])
    fill(folders, [("b.png", "b.png")], image=COLOUR)
    convert_images(*folders, target)
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    stored = np.asarray(Image.open(target / "imagesTr" / "a_0000.png"))
    np.testing.assert_array_equal(stored, np.dstack([GREY] * 3))
    np.testing.assert_array_equal(np.asarray(Image.open(target / "imagesTr" / "b_0000.png")), COLOUR)


def test_volumes_keep_type_and_place(folders, target):
    volume = np.arange(4 * 6 * 8, dtype=np.int16).reshape(8, 6, 4)
    affine = np.diag([0.5, 0.75, 3, 1])
    nibabel.save(nibabel.Nifti1Image(volume, affine), folders[0] / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image((volume > 90).astype(np.uint8), affine), folders[1] / "a_seg.nii.gz")
    convert_images(*folders, target)
    image = nibabel.load(target / "imagesTr" / "a_0000.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, affine)
    np.testing.assert_array_equal(np.asarray(nibabel.load(target / "labelsTr" / "a.nii.gz").dataobj), volume > 90)


def test_folds_part_no_patient(folders, target):
    names = [f"study{patient}-{view}" for patient in range(6) for view in range(3)]
    fill(folders, [(f"{name}.png", f"{name}.png") for name in names])
    result = convert_images(*folders, target, patient_pattern=r"study(\d+)")
    assert (result.patients, result.folds) == (6, 5)
    for fold in json.loads((target / "splits_final.json").read_text()):
        train, val = ({name.split("-")[0] for name in fold[part]} for part in ("train", "val"))
        assert val
        assert not train & val


def refuse(folders, target, words, **options):
    with pytest.raises(InputError, match=words) as caught:
        convert_images(*folders, target, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_files_without_partner_are_named_or_left_out(folders, target):
    fill(folders, [("a.png", "a.png"), ("b.png", "c.png")])
    refuse(folders, target, r"1 images of .* have no mask \(b\.png\) and 1 masks of .* no image \(c\.png\), 1 match")
    result = convert_images(*folders, target, skip_unmatched=True)
    assert result.cases == ("a",)
    assert len(result.notes) == 2


def test_masks_of_unknown_names_need_their_suffix(folders, target):
    fill(folders, [("a.png", "a_lesion.png")])
    refuse(folders, target, "0 match; name them alike, give --mask-suffix")
    assert convert_images(*folders, target, mask_suffix="_lesion").cases == ("a",)


def test_two_masks_of_one_image_are_named(folders, target):
    fill(folders, [("a.png", "a_mask.png"), ("a.png", "a_seg.png")])
    refuse(folders, target, r"a_mask\.png and a_seg\.png are both masks of one case")


def test_bad_masks_are_one_sentence(folders, target):
    fill(folders, [("a.png", "a.png")], mask=MASK[:5])
    refuse(folders, target, r"has the shape \(6, 8\) and its mask a\.png \(5, 8\)")
    fill(folders, [("a.png", "a.png")], mask=np.zeros_like(MASK))
    refuse(folders, target, "All masks are empty")
    fill(folders, [("a.png", "a.png")], mask=GREY)
    refuse(folders, target, r"more than 32 values .*smoothed borders")
    fill(folders, [("a.png", "a.png")])
    refuse(folders, target, "hold the value 2 .* which --labels does not name", label_names={1: "disc"})
    refuse(folders, target, "must differ", label_names={1: "disc", 2: "disc"})
    refuse(folders, target.with_name("wrong"), "DatasetXXX_Name")
    (folders[1] / "a.png").unlink()
    Image.fromarray(MASK).save(folders[1] / "a.jpg")
    refuse(folders, target, r"masks as JPEG \(a\.jpg\), which alters values")


def test_volumes_without_or_with_another_place_are_named(folders, target):
    volume = np.arange(4 * 6 * 8, dtype=np.uint8).reshape(8, 6, 4)
    np.savez(folders[0] / "a.npz", imgs=volume.T)
    np.savez(folders[1] / "a.npz", segs=(volume.T > 90).astype(np.uint8))
    refuse(folders, target, "is a volume without pixel size")
    for folder in folders:
        (folder / "a.npz").unlink()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1, 1, 3, 1])), folders[0] / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image((volume > 90).astype(np.uint8), np.diag([1, 1, 5, 1])), folders[1] / "a.nii.gz")
    refuse(folders, target, "differ in spacing, .* is it of another image")
