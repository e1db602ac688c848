"""The official volumes: slices, geometry, patients."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.mmwhs_toy import FLIPPED, IDENTITY, MIDDLES, OBLIQUE, heart, read, write_case

from nnsam.datasets.mmwhs.convert import Choices, convert_mmwhs
from nnsam.datasets.mmwhs.slices import SliceRule
from nnsam.datasets.patients import patients_of
from nnsam.errors import InputError

LABEL_OF = {500: 1, 600: 2, 420: 3, 550: 4, 205: 5, 820: 6, 850: 7}


def expected(array, values=(500, 600, 420, 550, 205)):
    return sum((array == value) * LABEL_OF[value] for value in values).astype(np.uint8)


@pytest.fixture
def source(tmp_path):
    for number in (1001, 1002):
        write_case(tmp_path / "MM-WHS" / "ct_train", f"ct_train_{number}", *heart())
    write_case(tmp_path / "MM-WHS" / "mr_train", "mr_train_1001", *heart(OBLIQUE))
    return tmp_path / "MM-WHS"


def test_axial_slices_are_the_volume_s_own(source, tmp_path):
    target = tmp_path / "Dataset301_Heart"
    result = convert_mmwhs(source, target, Choices(rule=SliceRule(per_volume=4)))
    image, label = (sitk.GetArrayFromImage(picture) for picture in heart())
    held = [z for z in range(20) if all((label[z] == value).any() for value in MIDDLES)]
    chosen = [held[(2 * part + 1) * len(held) // 8] for part in range(4)]
    names = sorted(f"ct_{number}_z{z:03d}" for number in (1001, 1002) for z in chosen)
    assert sorted(path.name for path in (target / "labelsTr").iterdir()) == [f"{name}.nii.gz" for name in names]
    for z in chosen:
        pixels, spacing = read(target / "imagesTr" / f"ct_1001_z{z:03d}_0000.nii.gz")
        labels, label_spacing = read(target / "labelsTr" / f"ct_1001_z{z:03d}.nii.gz")
        np.testing.assert_array_equal(pixels, image[z])
        np.testing.assert_array_equal(labels, expected(label[z]))
        assert pixels.dtype == np.int16
        assert labels.dtype == np.uint8
        assert spacing == label_spacing == pytest.approx((1.0, 1.5))
    assert result.cases == {"train": 8}
    assert result.patients == 2
    assert result.notes == ()
    content = json.loads((target / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT"}
    assert content["numTraining"] == 8
    assert content["labels"] == {"background": 0, "LV": 1, "RV": 2, "LA": 3, "RA": 4, "Myo": 5}
    assert "4 slices per volume, evenly spaced" in content["description"]
    assert json.loads((target / "patients.json").read_text()) == {name: name[:7] for name in names}
    assert patients_of(target) == {name: name[:7] for name in names}


@pytest.mark.parametrize("direction", [IDENTITY, FLIPPED, OBLIQUE], ids=["identity", "flipped", "oblique"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_are_the_patient_s_whatever_the_file_s_axes(tmp_path, plane, direction):
    size = (70, 50, 20) if direction != FLIPPED else (70, 20, 50)
    spacing = (1.0, 1.5, 2.0) if direction != FLIPPED else (1.0, 2.0, 1.5)
    image, label = heart(direction, spacing, size)
    write_case(tmp_path, "ct_train_1001", image, label)
    target = tmp_path / "Dataset301_Heart"
    convert_mmwhs(tmp_path, target, Choices(rule=SliceRule(plane, 0, 1)))
    # Oracle: ITK's own re-orientation; the head is at the top of coronal and sagittal slices.
    image, label = (
        sitk.GetArrayFromImage(sitk.DICOMOrient(picture, "LPS" if plane == "axial" else "LPI"))
        for picture in (image, label)
    )
    axis = ("axial", "coronal", "sagittal").index(plane)
    held = [index for index in range(label.shape[axis]) if label.take(index, axis).any()]
    files = sorted((target / "labelsTr").iterdir())
    assert [path.name for path in files] == [f"ct_1001_{'zyx'[axis]}{index:03d}.nii.gz" for index in held]
    for index in held:
        name = f"ct_1001_{'zyx'[axis]}{index:03d}"
        pixels, spacing = read(target / "imagesTr" / f"{name}_0000.nii.gz")
        np.testing.assert_array_equal(pixels, image.take(index, axis))
        np.testing.assert_array_equal(
            read(target / "labelsTr" / f"{name}.nii.gz")[0], expected(label.take(index, axis))
        )
        assert spacing == pytest.approx({0: (1.0, 1.5), 1: (1.0, 2.0), 2: (1.5, 2.0)}[axis])


def test_the_patient_s_sides_are_where_radiologists_expect_them(tmp_path):
    write_case(tmp_path, "ct_train_1001", *heart(FLIPPED, (1.0, 2.0, 1.5), (70, 20, 50)))
    target = tmp_path / "Dataset301_Heart"
    convert_mmwhs(tmp_path, target, Choices(rule=SliceRule("axial", 1)))
    labels, _ = read(next((target / "labelsTr").iterdir()))
    rows, columns = (
        np.array([np.argwhere(labels == label).mean(axis=0)[axis] for label in range(6)]) for axis in (0, 1)
    )
    assert columns[1] > columns[2]  # LV lies to the left of RV: further right in the picture
    assert rows[5] < rows[3]  # what lies in front is further up


def test_resampling_keeps_shapes_and_positions(tmp_path):
    image, label = heart(spacing=(0.9, 1.2, 2.0), size=(100, 60, 20))
    write_case(tmp_path, "ct_train_1001", image, label)
    target = tmp_path / "Dataset301_Heart"
    convert_mmwhs(tmp_path, target, Choices(rule=SliceRule(per_volume=1, size=(48, 44))))
    (case,) = patients_of(target)
    pixels, spacing = read(target / "imagesTr" / f"{case}_0000.nii.gz")
    labels, _ = read(target / "labelsTr" / f"{case}.nii.gz")
    assert pixels.shape == labels.shape == (44, 48)
    side = max(100 * 0.9 / 48, 60 * 1.2 / 44)
    assert spacing == pytest.approx((side, side), rel=1e-6)
    z = (int(case[-3:]) - 9.5) * 2.0
    # Closed form: the middle of the slice is the origin of the patient's coordinates.
    y, x = (np.indices((44, 48)) - np.array([21.5, 23.5])[:, None, None]) * side
    for value, (cx, cy, cz) in MIDDLES.items():
        distance = ((x - cx) / 8) ** 2 + ((y - cy) / 6) ** 2 + ((z - cz) / 12) ** 2
        area = np.pi * 8 * 6 * (1 - ((z - cz) / 12) ** 2)
        found = labels == LABEL_OF[value]
        assert found.sum() * side**2 == pytest.approx(area, rel=0.12)
        assert not found[distance > 1.5].any()
        assert found[distance < 0.55].all()
    assert pixels[:2].min() == pixels[:2].max() == sitk.GetArrayFromImage(image).min()  # padding


def test_cropping_keeps_pixels_and_spacing(tmp_path):
    image, label = heart()
    write_case(tmp_path, "ct_train_1001", image, label)
    target = tmp_path / "Dataset301_Heart"
    result = convert_mmwhs(tmp_path, target, Choices(rule=SliceRule(per_volume=2, size=(64, 80), fit="crop")))
    image, label = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(label)
    _, rows, columns = np.nonzero(label)
    top = (rows.min() + rows.max() + 1 - 80) // 2
    left = (columns.min() + columns.max() + 1 - 64) // 2
    assert top < 0 < left  # pads above, cuts at the side
    for case in patients_of(target):
        z = int(case[-3:])
        pixels, spacing = read(target / "imagesTr" / f"{case}_0000.nii.gz")
        wide = np.pad(image[z], 40, constant_values=image.min())[40 + top :, 40 + left :][:80, :64]
        np.testing.assert_array_equal(pixels, wide)
        marked = np.pad(expected(label[z]), 40)[40 + top :, 40 + left :][:80, :64]
        np.testing.assert_array_equal(read(target / "labelsTr" / f"{case}.nii.gz")[0], marked)
        assert spacing == pytest.approx((1.0, 1.5))
    assert result.notes == ()


def test_a_window_that_cuts_labels_is_told(source, tmp_path):
    rule = SliceRule(per_volume=2, size=(32, 32), fit="crop")
    result = convert_mmwhs(source, tmp_path / "Dataset301_Heart", Choices(rule=rule))
    assert any("cuts off labelled pixels in 4 slices" in note for note in result.notes)


def test_whole_volumes_keep_their_geometry(source, tmp_path):
    target = tmp_path / "Dataset301_Heart"
    result = convert_mmwhs(source, target, Choices(modality="both", classes="all", rule=None))
    assert result.cases == {"train": 3}
    assert "No case holds AA, PA" in result.notes[0]
    content = json.loads((target / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT or MR"}
    assert list(content["labels"]) == ["background", "LV", "RV", "LA", "RA", "Myo", "AA", "PA"]
    image, label = heart(OBLIQUE)
    for part, original in (("imagesTr/mr_1001_0000", image), ("labelsTr/mr_1001", label)):
        written = sitk.ReadImage(str(target / f"{part}.nii.gz"))
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            assert getattr(written, geometry)() == pytest.approx(getattr(original, geometry)(), abs=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected(sitk.GetArrayFromImage(label)))
    assert patients_of(target) == {"ct_1001": "ct_1001", "ct_1002": "ct_1002", "mr_1001": "mr_1001"}


@pytest.mark.parametrize(("modality", "channel", "patients"), [("mr", "MR", 1), ("ct", "CT", 2)])
def test_modalities(source, tmp_path, modality, channel, patients):
    target = tmp_path / "Dataset301_Heart"
    result = convert_mmwhs(source, target, Choices(modality=modality))
    assert result.patients == patients
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == {"0": channel}


def test_the_stray_value_is_the_left_atrium(tmp_path):
    image, label = heart()
    array = sitk.GetArrayFromImage(label)
    array[tuple(np.argwhere(array == 420)[:7].T)] = 421
    stray = sitk.GetImageFromArray(array)
    stray.CopyInformation(label)
    write_case(tmp_path, "mr_train_1010", image, stray)
    target = tmp_path / "Dataset301_Heart"
    result = convert_mmwhs(tmp_path, target, Choices(modality="mr", rule=None))
    assert "holds 7 voxels of the stray value 421, taken as 420 (LA)" in result.notes[0]
    written, _ = read(target / "labelsTr" / "mr_1010.nii.gz")
    np.testing.assert_array_equal(written, expected(sitk.GetArrayFromImage(label)))


def test_test_images_become_test_cases(source, tmp_path):
    write_case(source / "ct_test", "ct_test_2001", heart()[0], None)
    result = convert_mmwhs(source, tmp_path / "Dataset301_Heart", Choices(rule=None, test=True))
    assert result.cases == {"train": 2, "test": 1}
    assert (tmp_path / "Dataset301_Heart" / "imagesTs" / "ct_2001_0000.nii.gz").is_file()
    assert not (tmp_path / "Dataset301_Heart" / "labelsTs").exists()
    plain = convert_mmwhs(source, tmp_path / "Dataset302_Heart")
    assert plain.cases == {"train": 20}  # left out unless asked for
    assert "has only 10 slices that qualify" in plain.notes[0]
    write_case(source / "ct_test", "ct_test_2001", *heart())
    result = convert_mmwhs(source, tmp_path / "Dataset303_Heart", Choices(test=True, rule=SliceRule(per_volume=3)))
    assert result.cases == {"train": 6, "test": 3}
    assert len(list((tmp_path / "Dataset303_Heart" / "labelsTs").iterdir())) == 3


def test_files_of_other_names_are_left_out_with_a_note(source, tmp_path):
    (source / "readme.txt").write_text("hello")
    (source / "ct_train" / ".DS_Store").write_bytes(b"")
    result = convert_mmwhs(source, tmp_path / "Dataset301_Heart", Choices(rule=SliceRule(per_volume=1)))
    assert len(result.notes) == 1
    assert "Left out" in result.notes[0]
    assert "readme.txt" in result.notes[0]


def test_an_oblique_volume_and_a_float_label(tmp_path):
    image, label = heart(OBLIQUE)
    write_case(tmp_path, "mr_train_1001", sitk.Cast(image, sitk.sitkFloat32), sitk.Cast(label, sitk.sitkFloat64))
    target = tmp_path / "Dataset301_Heart"
    assert convert_mmwhs(tmp_path, target, Choices(modality="mr", rule=SliceRule(per_volume=2))).cases == {"train": 2}
    with pytest.raises(InputError, match="not an empty folder"):
        convert_mmwhs(tmp_path, target, Choices(modality="mr"))
