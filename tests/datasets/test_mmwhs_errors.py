"""What is refused: one sentence, and nothing is left behind."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.mmwhs_toy import heart, write_case, write_cfdnet

from nnsam.datasets.mmwhs.convert import Choices, convert_mmwhs
from nnsam.datasets.mmwhs.slices import SliceRule
from nnsam.errors import InputError


@pytest.fixture
def source(tmp_path):
    for number in (1001, 1002):
        write_case(tmp_path / "MM-WHS" / "ct_train", f"ct_train_{number}", *heart())
    return tmp_path / "MM-WHS"


def refused(source, match, choices=None, name="Dataset301_Heart"):
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(InputError, match=match) as caught:
        convert_mmwhs(source, source.parent / name, choices)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert sorted(source.parent.rglob("*")) == before
    return str(caught.value)


def relabelled(change):
    image, label = heart()
    array = sitk.GetArrayFromImage(label)
    changed = sitk.GetImageFromArray(change(array))
    changed.CopyInformation(label)
    return image, changed


def test_missing_partners(source):
    folder = source / "ct_train"
    (folder / "ct_train_1002_label.nii.gz").unlink()
    refused(source, r"ct_train_1002_image\.nii\.gz has no label file beside it")
    (folder / "ct_train_1002_image.nii.gz").rename(folder / "ct_train_1003_label.nii.gz")
    refused(source, r"ct_train_1003_label\.nii\.gz has no image beside it")


def test_the_same_file_twice(source):
    shutil.copytree(source / "ct_train", source / "copy")
    refused(source, "are the same image")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda array: array + (array == 500), r"values that are not MM-WHS's: 501 \(\d+ voxels\)"),
        (lambda array: array - 1, "not MM-WHS's: -1, 204, 419, 499, 549 and 1 more"),
        (lambda array: array + 10_000 * (array > 0), "not MM-WHS's: 10205"),
        (lambda array: array.astype(np.float32) + 0.5, "not MM-WHS's: 0.5, 205.5"),
        (lambda array: array * 0 + (array > 0), "not MM-WHS's: 1 "),
        (lambda array: array * 0, "holds none of the classes"),
        (lambda array: array * (array > 500), "no axial slice holds 5 of the 5 classes .the volume holds 2."),
    ],
)
def test_label_values(tmp_path, change, match):
    write_case(tmp_path / "MM-WHS", "ct_train_1001", *heart())
    write_case(tmp_path / "MM-WHS", "ct_train_1005", *relabelled(change))
    message = refused(tmp_path / "MM-WHS", match)
    assert "ct_train_1005_label.nii.gz" in message


@pytest.mark.parametrize("change", ["size", "spacing", "origin", "direction"])
def test_geometry_that_differs(tmp_path, change):
    image, label = heart()
    label = {
        "size": lambda: label[:-1],
        "spacing": lambda: label,
        "origin": lambda: label,
        "direction": lambda: label,
    }[change]()
    if change == "spacing":
        label.SetSpacing((1.0, 1.52, 2.0))
    elif change == "origin":
        label.SetOrigin([value + 0.15 for value in label.GetOrigin()])
    elif change == "direction":
        label.SetDirection((1, 0, 0, 0, np.cos(0.01), -np.sin(0.01), 0, np.sin(0.01), np.cos(0.01)))
    source = tmp_path / "MM-WHS"
    write_case(source, "ct_train_1001", image, label)
    refused(source, "they must be the same" if change == "size" else "mm away from its image")
    trusting = Choices(trust_image=True)
    if change == "size":
        refused(source, "they must be the same", trusting)
    else:
        assert convert_mmwhs(source, tmp_path / "Dataset301_Heart", trusting).cases == {"train": 10}


def test_rounded_headers_are_the_same_geometry(tmp_path):
    image, label = heart()
    label.SetOrigin([value + 0.04 for value in label.GetOrigin()])
    label.SetSpacing((1.0001, 1.5, 2.0))
    write_case(tmp_path / "MM-WHS", "ct_train_1001", image, label)
    assert convert_mmwhs(tmp_path / "MM-WHS", tmp_path / "Dataset301_Heart").cases == {"train": 10}


@pytest.mark.parametrize("kind", ["image", "label"])
def test_damaged_files(source, kind):
    path = source / "ct_train" / f"ct_train_1002_{kind}.nii.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello", whole[:40] + b"\0" * 50 + whole[90:]):
        path.write_bytes(content)
        assert path.name in refused(source, r"cannot be read|cut off|not a NIfTI")


def test_pictures_and_sequences_are_no_volumes(tmp_path):
    source = tmp_path / "MM-WHS"
    image, label = heart()
    write_case(source, "ct_train_1001", image[:, :, 5], label[:, :, 5])
    refused(source, "not a grey volume")
    write_case(source, "ct_train_1001", sitk.JoinSeries(image, image), label)
    refused(source, "4 dimensions")


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        (Choices(modality="mr"), "holds no mr training files, only ct train"),
        (Choices(modality="pet"), "modality 'pet' is unknown"),
        (Choices(classes="some"), "choice of classes 'some' is unknown"),
    ],
)
def test_choices(source, choices, match):
    refused(source, match, choices)


@pytest.mark.parametrize(
    "values", [{"plane": "oblique"}, {"fit": "stretch"}, {"per_volume": -1}, {"min_classes": 0}, {"size": (0, 220)}]
)
def test_rules(values):
    with pytest.raises(InputError, match="expected"):
        SliceRule(**values)


def test_more_classes_than_a_slice_holds(source):
    refused(source, "no axial slice holds 6 of the 5 classes", Choices(rule=SliceRule(min_classes=6)))


def test_sources_and_targets(source, tmp_path):
    refused(source, "DatasetXXX_Name", name="Heart")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "holds no file of MM-WHS")
    refused(tmp_path / "absent", "does not exist")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    refused(tmp_path / "cut.zip", "neither a folder nor a zip archive")
    write_cfdnet(source / "CT_withGT", [33])
    refused(source, "both MM-WHS's volumes")


def test_test_images_without_labels_cannot_be_sliced(source):
    write_case(source / "ct_test", "ct_test_2001", heart()[0], None)
    refused(source, "has no labels, by which its slices would be chosen", Choices(test=True))
    write_case(source / "ct_test", "ct_test_1001", *heart())
    refused(source, "patient 1001 among the training and the test files", Choices(test=True, rule=None))
