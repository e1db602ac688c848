"""CFDnet's slices: folders, archives, patients."""

import json
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.mmwhs_toy import heart, read, write_case, write_cfdnet

from nnsam.datasets.mmwhs import cfdnet
from nnsam.datasets.mmwhs.convert import Choices, convert_mmwhs
from nnsam.datasets.mmwhs.slices import SliceRule
from nnsam.datasets.patients import patients_of
from nnsam.errors import InputError


def archive_of(folder, path, prefix="CT_withGT/"):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.nii.gz")):
            archive.write(file, f"{prefix}{file.name}")
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_slices_as_they_are(tmp_path, zipped):
    folder = tmp_path / "CT_withGT"
    write_cfdnet(folder, (33, 34), (1, 2, 10))
    source = archive_of(folder, tmp_path / "data.zip") if zipped else folder
    target = tmp_path / "Dataset302_CFDnet"
    result = convert_mmwhs(source, target)
    assert result.cases == {"train": 6}
    assert result.patients == 2
    assert result.notes == ("Found 6 slices of 2 cases; CFDnet's description says 20 cases of 16 slices per modality.",)
    cases = [f"ct{case}_slice{number:02d}" for case in (33, 34) for number in (1, 2, 10)]
    assert patients_of(target) == {case: case[:4] for case in cases}
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == {"0": "CT"}
    for case, number in ((33, 1), (34, 10)):
        pixels, spacing = read(target / "imagesTr" / f"ct{case}_slice{number:02d}_0000.nii.gz")
        original, _ = read(folder / f"img{case}_slice{number}.nii.gz")
        np.testing.assert_array_equal(pixels, original[:, :, 0])
        assert pixels.shape == (220, 240)
        assert spacing == pytest.approx((0.75, 1.25))
        labels, _ = read(target / "labelsTr" / f"ct{case}_slice{number:02d}.nii.gz")
        values, _ = read(folder / f"lab{case}_slice{number}.nii.gz")
        table = {0: 0, 500: 1, 600: 2, 420: 3, 550: 4, 205: 5}
        np.testing.assert_array_equal(labels, np.vectorize(table.get)(values[:, :, 0]))


def test_the_number_of_slices_that_is_announced_needs_no_note(tmp_path, monkeypatch):
    assert (cfdnet._CASES, cfdnet._SLICES) == (20, 16)
    monkeypatch.setattr(cfdnet, "_CASES", 2)
    monkeypatch.setattr(cfdnet, "_SLICES", 3)
    write_cfdnet(tmp_path / "CT_withGT", (33, 34), (1, 2, 3))
    result = convert_mmwhs(tmp_path / "CT_withGT", tmp_path / "Dataset302_CFDnet")
    assert (result.cases, result.patients, result.notes) == ({"train": 6}, 2, ())


def test_a_copy_of_the_whole_repository(tmp_path):
    source = tmp_path / "CT_MR_2D_Dataset_DA-master"
    write_cfdnet(source / "CT_withGT" / "Images", [33])
    (source / "CT_withGT" / "Label").mkdir()
    for path in sorted((source / "CT_withGT" / "Images").glob("lab*")):
        path.rename(source / "CT_withGT" / "Label" / path.name)
    write_cfdnet(source / "MR_withGT", [1], values=(500, 205))
    write_cfdnet(source / "CT_woGT", [1])
    result = convert_mmwhs(source, tmp_path / "Dataset302_CFDnet", Choices(modality="both"))
    assert sorted(set(patients_of(tmp_path / "Dataset302_CFDnet").values())) == ["ct33", "mr01"]
    assert "4 files in folders woGT were left out" in result.notes[0]
    result = convert_mmwhs(source, tmp_path / "Dataset303_CFDnet", Choices(modality="mr"))
    assert result.cases == {"train": 2}
    assert "No case holds RV, LA, RA" in result.notes[-1]


def test_the_modality_must_be_told_where_no_folder_does(tmp_path):
    write_cfdnet(tmp_path / "slices", [33])
    with pytest.raises(InputError, match="may be CT or MR"):
        convert_mmwhs(tmp_path / "slices", tmp_path / "Dataset302_CFDnet", Choices(modality="both"))
    convert_mmwhs(tmp_path / "slices", tmp_path / "Dataset302_CFDnet", Choices(modality="mr"))
    assert set(patients_of(tmp_path / "Dataset302_CFDnet").values()) == {"mr33"}


@pytest.mark.parametrize("choices", [Choices(rule=None), Choices(rule=SliceRule(plane="coronal"))])
def test_slices_are_not_sliced_again(tmp_path, choices):
    write_cfdnet(tmp_path / "CT_withGT", [33])
    with pytest.raises(InputError, match="stay as they are"):
        convert_mmwhs(tmp_path / "CT_withGT", tmp_path / "Dataset302_CFDnet", choices)


def test_what_is_refused(tmp_path):
    target = tmp_path / "Dataset302_CFDnet"
    folder = tmp_path / "CT_withGT"
    write_cfdnet(folder, [33])
    with pytest.raises(InputError, match="holds no mr slices with labels, only ct slices"):
        convert_mmwhs(folder, target, Choices(modality="mr"))
    (folder / "lab33_slice2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"img33_slice2\.nii\.gz has no label file"):
        convert_mmwhs(folder, target)
    sitk.WriteImage(sitk.Image(240, 220, sitk.sitkInt16), str(folder / "lab33_slice2.nii.gz"))
    with pytest.raises(InputError, match=r"has the size \(240, 220\), its image \(1, 240, 220\)"):
        convert_mmwhs(folder, target)
    volume, label = heart()
    sitk.WriteImage(volume, str(folder / "img33_slice2.nii.gz"))
    sitk.WriteImage(label, str(folder / "lab33_slice2.nii.gz"))
    with pytest.raises(InputError, match="is no single slice"):
        convert_mmwhs(folder, target)
    write_cfdnet(tmp_path / "CT_woGT", [1])
    with pytest.raises(InputError, match="only slices with automatic labels"):
        convert_mmwhs(tmp_path / "CT_woGT", target)
    assert not target.exists()


def test_pictures_of_two_dimensions(tmp_path):
    image, label = heart()
    (tmp_path / "CT_withGT").mkdir()
    sitk.WriteImage(image[:, :, 9], str(tmp_path / "CT_withGT" / "img33_slice1.nii"))
    sitk.WriteImage(label[:, :, 9], str(tmp_path / "CT_withGT" / "lab33_slice1.nii"))
    convert_mmwhs(tmp_path / "CT_withGT", tmp_path / "Dataset302_CFDnet")
    pixels, spacing = read(tmp_path / "Dataset302_CFDnet" / "imagesTr" / "ct33_slice01_0000.nii.gz")
    np.testing.assert_array_equal(pixels, sitk.GetArrayFromImage(image)[9])
    assert spacing == pytest.approx((1.0, 1.5))


def test_the_official_files_in_an_archive(tmp_path):
    write_case(tmp_path / "ct_train", "ct_train_1001", *heart())
    source = archive_of(tmp_path / "ct_train", tmp_path / "mmwhs.zip", "MM-WHS 2017/ct_train/")
    assert convert_mmwhs(source, tmp_path / "Dataset301_Heart").cases == {"train": 10}


def test_names_in_an_archive_lead_nowhere(tmp_path):
    folder = tmp_path / "inside" / "deep" / "CT_withGT"
    write_cfdnet(folder, [33])
    source = tmp_path / "inside" / "deep" / "evil.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name in ("img33_slice1.nii.gz", "lab33_slice1.nii.gz"):
            archive.write(folder / name, f"../../../{name}")
            archive.write(folder / name, f"__MACOSX/._{name}")
        archive.write(folder / "img33_slice2.nii.gz", f"{tmp_path}/CT/img33_slice2.nii.gz")
        archive.write(folder / "lab33_slice2.nii.gz", f"{tmp_path}/CT/lab33_slice2.nii.gz")
    before = set(tmp_path.rglob("*"))
    target = tmp_path / "inside" / "Dataset302_CFDnet"
    assert convert_mmwhs(source, target).cases == {"train": 2}
    created = set(tmp_path.rglob("*")) - before
    assert all(path == target or target in path.parents for path in created)


def test_a_damaged_member_is_named_by_its_place_in_the_archive(tmp_path):
    write_cfdnet(tmp_path / "CT_withGT", [33])
    path = tmp_path / "CT_withGT" / "lab33_slice2.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    source = archive_of(tmp_path / "CT_withGT", tmp_path / "data.zip")
    with pytest.raises(InputError, match=r"data\.zip/CT_withGT/lab33_slice2\.nii\.gz cannot be read"):
        convert_mmwhs(source, tmp_path / "Dataset302_CFDnet")
    content = bytearray(source.read_bytes())
    start = content.index(b"CT_withGT/img33_slice1.nii.gz") + 200
    content[start : start + 20] = b"x" * 20
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"img33_slice1\.nii\.gz cannot be read \(Bad CRC"):
        convert_mmwhs(source, tmp_path / "Dataset302_CFDnet")
    assert not (tmp_path / "Dataset302_CFDnet").exists()
