"""Patients of the cases of a raw data set."""

import json

import pytest

from nnsam.datasets.challenge import convert_npz_dataset
from nnsam.datasets.patients import patients_of
from nnsam.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for part, names in {"imagesTr": ["1001_7", "1001_9", "patient01_ED"], "imagesTs": ["1001_8", "x"]}.items():
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}_0000.png").touch()
            (tmp_path / part / f"{name}_0001.png").touch()
    (tmp_path / "dataset.json").write_text('{"file_ending": ".png"}')
    return tmp_path


def test_names_tell_patients_across_training_and_test(folder):
    assert patients_of(folder) == {
        "1001_7": "1001",
        "1001_8": "1001",
        "1001_9": "1001",
        "patient01_ED": "patient01",
        "x": "x",
    }


def test_a_pattern_and_a_record(folder):
    record = dict.fromkeys(["1001_7", "1001_8", "1001_9", "patient01_ED", "x"], "one")
    (folder / "patients.json").write_text(json.dumps(record))
    assert patients_of(folder) == record
    assert patients_of(folder, r"_(\d)$")["1001_9"] == "9"
    with pytest.raises(InputError, match="not a regular expression"):
        patients_of(folder, "(")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "cannot be read"),
        ("[]", "must hold one object"),
        ('{"x": 3}', "must hold one object"),
        ('{"x": "p"}', r"lacks 4 cases, e.g. 1001_7"),
        (json.dumps(dict.fromkeys(["1001_7", "1001_8", "1001_9", "patient01_ED", "x", "y"], "p")), "names 1 cases"),
    ],
)
def test_records_that_do_not_fit(folder, text, match):
    (folder / "patients.json").write_text(text)
    with pytest.raises(InputError, match=match):
        patients_of(folder)


def test_folders_that_are_no_data_set(folder):
    (folder / "imagesTs" / "1001_7_0000.png").touch()
    with pytest.raises(InputError, match="case 1001_7 in imagesTr and in imagesTs"):
        patients_of(folder)
    (folder / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    with pytest.raises(InputError, match="holds no images called"):
        patients_of(folder)
    (folder / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        patients_of(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"holds no dataset\.json"):
        patients_of(folder)


@pytest.mark.parametrize(("name", "cases", "patients"), [("heart_ct_chd68", 36, 7), ("cardiac_acdc", 360, 120)])
def test_patients_of_real_sets_by_the_names_they_are_converted_to(shared, tmp_path, name, cases, patients):
    for path in (shared / "data" / name).rglob("*.npz"):
        part = tmp_path / ("imagesTs" if path.parent.name == "test" else "imagesTr")
        part.mkdir(exist_ok=True)
        (part / f"{path.stem}_0000.nii.gz").touch()
    (tmp_path / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    found = patients_of(tmp_path)
    assert len(found) == cases
    assert len(set(found.values())) == patients
    assert all(case.startswith(f"{patient}_") for case, patient in found.items())


def test_a_real_set_is_converted_with_names_that_tell_the_patient(shared, tmp_path):
    result = convert_npz_dataset(shared / "data" / "heart_mmwhs_sifa", tmp_path / "Dataset101_Set")
    assert result.cases == {"train": 2, "test": 2}
    found = patients_of(tmp_path / "Dataset101_Set")
    assert found == {case: case for case in found}  # four patients
    assert len(found) == 4
