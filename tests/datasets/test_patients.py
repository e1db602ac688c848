import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.datasets.patients import fixed_fold, patient_folds, patient_ids
from nnsam.errors import InputError


def parted(folds, patients) -> list[str]:
    """Patients with cases on both sides of a fold."""
    return [
        patient
        for fold in folds
        for patient in sorted({patients[c] for c in fold["train"]} & {patients[c] for c in fold["val"]})
    ]


def test_the_checker_finds_a_parted_patient():
    folds = [{"train": ["a1"], "val": ["a2", "b"]}]
    assert parted(folds, {"a1": "a", "a2": "a", "b": "b"}) == ["a"]
    assert parted(folds, {"a1": "c", "a2": "a", "b": "b"}) == []


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("patient001_ED_z04", "patient001"),
        ("3DMR_ACDC_patient001_ED", "patient001"),
        ("patient0010_2CH_ES", "patient0010"),
        ("3DCT_STS_001", "STS_001"),
        ("3DPET_STS_001", "STS_001"),
        ("TCGA-2Z-A9J9-01A-01-TS1", "TCGA-2Z-A9J9"),
        ("flipped_P150_L_DM_CC", "P150"),
        ("P150", "P150"),
        ("flipped_XP150_L", "set/flipped_XP150_L"),
        ("inpatient7", "set/inpatient7"),
        ("ISIC_0000044", "set/ISIC_0000044"),
    ],
)
def test_names_that_state_a_patient(case, patient):
    assert patient_ids({"set": [case]}) == {("set", case): patient}


def test_prefixes_are_patients_only_where_shared_and_numbered():
    ids = patient_ids({"a": ["10_1", "10_2", "11_1", "ISIC_1", "ISIC_2"], "b": ["10_1", "10_5"]})
    assert ids["a", "10_1"] == ids["a", "10_2"] == "a/10"
    assert ids["b", "10_1"] == "b/10"  # another set's 10 is someone else
    assert ids["a", "11_1"] == "a/11_1"
    assert ids["a", "ISIC_1"] != ids["a", "ISIC_2"]


def test_an_own_pattern_goes_first_and_the_rules_serve_the_rest():
    ids = patient_ids({"a": ["105006", "105008", "patient001_x"], "b": ["105010"]}, r"^(\d{3})\d{3}$")
    assert set(ids.values()) == {"105", "patient001"}
    assert patient_ids({"a": ["xy12"]}, r"\d+") == {("a", "xy12"): "12"}
    with pytest.raises(InputError, match="not a regular expression"):
        patient_ids({"a": ["x"]}, "(")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 200), st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=40))
def test_folds_part_no_patient_and_validate_every_case_once(cases):
    patients = {f"c{case}": f"p{patient}" for case, (patient, _) in cases.items()}
    sets = {f"c{case}": f"s{name}" for case, (_, name) in cases.items()}
    folds = patient_folds(patients, sets)
    count = len(set(patients.values()))
    assert len(folds) == (0 if count == 1 else min(5, count))
    assert parted(folds, patients) == []
    for fold in folds:
        assert fold["train"]
        assert fold["val"]
        assert sorted(fold["train"] + fold["val"]) == sorted(patients)
    if folds:
        assert sorted(case for fold in folds for case in fold["val"]) == sorted(patients)


def test_every_fold_validates_on_every_set_with_enough_patients():
    sets = {f"{name}{index}": name for name, size in (("big", 50), ("small", 5)) for index in range(size)}
    for fold in patient_folds({case: case for case in sets}, sets):
        names = [sets[case] for case in fold["val"]]
        assert (names.count("big"), names.count("small")) == (10, 1)


def test_a_fixed_fold_takes_all_cases_of_its_patients():
    patients = {"a1": "a", "a2": "a", "b": "b"}
    assert fixed_fold(patients, {"a1"}) == [{"train": ["b"], "val": ["a1", "a2"]}]
