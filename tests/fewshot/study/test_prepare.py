"""A study's folder holds what its record says, changes nothing in the source, and refuses what is not sound."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_study import case_names, make_raw, write_case, write_dataset_json, write_nifti

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.study import cases as subset_dataset
from nnsam.fewshot.study import layout
from nnsam.fewshot.study import prepare as module
from nnsam.fewshot.study.planning import PlanOptions
from nnsam.fewshot.study.prepare import StudyRequest, check_experiment, prepare
from nnsam.fewshot.study.protocol import Protocol
from nnsam.nnunet.raw_dataset import find_source

GIVEN = StudyRequest(sizes=(2, 4), seeds=(0, 1), rule="given")


@pytest.fixture
def raw(tmp_path):
    return make_raw(tmp_path / "Dataset007_Hearts")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_subset_is_a_data_set_of_its_training_and_the_validation_cases(raw, tmp_path):
    before = snapshot(raw)
    prepared = prepare(raw, tmp_path / "study", GIVEN)
    protocol = Protocol.read(tmp_path / "study")
    assert protocol == prepared.protocol
    assert prepared.is_new
    datasets = ["Dataset100_n2s0", "Dataset101_n2s1", "Dataset102_n4s0", "Dataset103_n4s1"]
    assert names(layout.raw_folder(tmp_path / "study")) == datasets
    for name, key in zip(datasets, [(2, 0), (2, 1), (4, 0), (4, 1)], strict=True):
        folder = layout.raw_folder(tmp_path / "study") / name
        cases = sorted([*protocol.subsets[key], *case_names(2, 2, 5)])
        assert names(folder / "labelsTr") == [f"{case}.nii.gz" for case in cases]
        assert names(folder / "imagesTr") == [f"{case}_0000.nii.gz" for case in cases]
        content = json.loads((folder / "dataset.json").read_text())
        assert (content["name"], content["numTraining"]) == (name, len(cases))
        for case in cases:
            assert os.path.samefile(folder / f"labelsTr/{case}.nii.gz", raw / f"labelsTr/{case}.nii.gz")
    test = layout.test_folder(tmp_path / "study")
    assert names(test / "labelsTs") == [f"{case}.nii.gz" for case in case_names(2, 2, 7)]
    assert names(test / "imagesTs") == [f"{case}_0000.nii.gz" for case in case_names(2, 2, 7)]
    assert snapshot(raw) == before


def test_the_given_split_is_kept(raw, tmp_path):
    protocol = prepare(raw, tmp_path / "study", GIVEN).protocol
    assert set().union(*protocol.subsets.values()) <= set(case_names(4, 2))
    assert protocol.validation == tuple(case_names(2, 2, 5))
    assert protocol.test == tuple(case_names(2, 2, 7))


def test_caps_draw_from_the_given_split(raw, tmp_path):
    protocol = prepare(raw, tmp_path / "study", replace(GIVEN, validation=3, test=1)).protocol
    assert len(protocol.validation) == 3
    assert set(protocol.validation) < set(case_names(2, 2, 5))
    assert len(protocol.test) == 1
    with pytest.raises(InputError, match="5 test cases were asked for, and the given split has 4"):
        prepare(raw, tmp_path / "other", replace(GIVEN, test=5))


def test_without_folds_whole_patients_are_drawn_for_the_validation(tmp_path):
    raw = make_raw(tmp_path / "Dataset007_Hearts", fold=False)
    with pytest.raises(InputError, match=r"has no splits_final\.json.*--val"):
        prepare(raw, tmp_path / "study", GIVEN)
    protocol = prepare(raw, tmp_path / "study", replace(GIVEN, validation=2)).protocol
    assert len(protocol.validation) == 2
    assert len({protocol.patients[case] for case in protocol.validation}) == 1


@pytest.mark.parametrize("rule", ["patient", "slice"])
def test_drawn_splits_take_cases_of_both_folders(raw, tmp_path, rule):
    request = StudyRequest(sizes=(2,), seeds=(0,), rule=rule, validation=4, test=10)
    protocol = prepare(raw, tmp_path / "study", request).protocol
    assert (len(protocol.validation), len(protocol.test)) == (4, 10)
    for name in ("validation", "test"):
        with pytest.raises(InputError, match=rf"--split {rule} draws .* say how many"):
            prepare(raw, tmp_path / "other", replace(request, **{name: None}))
    with pytest.raises(InputError, match="found 0 validation cases"):
        prepare(raw, tmp_path / "other", replace(request, validation=0))


def test_planning_from_all_cases_keeps_a_data_set_of_them(raw, tmp_path):
    prepare(raw, tmp_path / "study", replace(GIVEN, sizes=(2,), planning="all"))
    folder = layout.raw_folder(tmp_path / "study") / layout.pool_dataset()
    assert names(folder / "labelsTr") == [f"{case}.nii.gz" for case in case_names(6, 2)]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 12


def test_files_are_copied_where_links_are_not_possible(raw, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(subset_dataset.os, "link", refuse)
    prepared = prepare(raw, tmp_path / "study", GIVEN)
    check_experiment(prepared.folder, prepared.protocol)
    copied = prepared.folder / "test/labelsTs/patient007_z0.nii.gz"
    assert not os.path.samefile(copied, raw / "labelsTs/patient007_z0.nii.gz")
    assert copied.read_bytes() == (raw / "labelsTs/patient007_z0.nii.gz").read_bytes()


def test_the_same_study_again_is_accepted_and_another_refused(raw, tmp_path):
    first = prepare(raw, tmp_path / "study", GIVEN)
    before = snapshot(tmp_path / "study")
    again = prepare(raw, tmp_path / "study", GIVEN)
    assert (again.is_new, again.protocol.digest) == (False, first.protocol.digest)
    with pytest.raises(InputError, match=r"holds another study \(its sizes, subsets"):
        prepare(raw, tmp_path / "study", replace(GIVEN, sizes=(3,)))
    with pytest.raises(InputError, match=r"the same study with another planning .*planner ExperimentPlanner\)"):
        prepare(raw, tmp_path / "study", replace(GIVEN, options=PlanOptions(batch_size=4)))
    assert snapshot(tmp_path / "study") == before


def test_a_folder_with_something_else_is_left_alone(raw, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not an empty folder"):
        prepare(raw, tmp_path / "study", GIVEN)
    assert names(tmp_path / "study") == ["thesis.txt"]


def test_an_interrupted_preparation_leaves_nothing(raw, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_cases", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "study", GIVEN)
    assert names(tmp_path) == [raw.name]


def replace_file(path: Path, values: np.ndarray) -> None:
    """Replaces a linked file without changing the file that it is linked to."""
    path.unlink()
    write_nifti(path, values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda study: (study / "test/labelsTs/patient007_z0.nii.gz").unlink(), "lacks files of case patient007_z0"),
        (
            lambda study: write_case(study / "nnunet/nnUNet_raw/Dataset100_n2s0", "Tr", "patient099_z0"),
            "holds files of the further case patient099_z0",
        ),
        (
            lambda study: replace_file(study / "test/imagesTs/patient008_z1_0000.nii.gz", np.zeros((40, 48), np.int16)),
            "image or label of case patient008_z1 .* is not the one",
        ),
        (lambda study: (study / "planning.json").write_text("{}"), "planning.json cannot be read"),
        (lambda study: (study / "protocol.json").write_text("{"), "protocol.json cannot be read"),
    ],
)
def test_an_edited_study_is_refused(raw, tmp_path, edit, message):
    study = prepare(raw, tmp_path / "study", GIVEN).folder
    edit(study)
    with pytest.raises(InputError, match=message):
        prepare(raw, study, GIVEN)


def test_a_changed_source_is_another_study(raw, tmp_path):
    prepare(raw, tmp_path / "study", GIVEN)
    replace_file(raw / "imagesTs/patient007_z0_0000.nii.gz", np.ones((40, 48), np.int16))
    with pytest.raises(InputError, match=r"holds another study \(its hashes differ\)"):
        prepare(raw, tmp_path / "study", GIVEN)


def test_classes_are_counted_and_an_absent_one_shows(raw, tmp_path):
    for case in case_names(4, 2):
        write_case(raw, "Tr", case, classes=(1,))
    counts = prepare(raw, tmp_path / "study", GIVEN).class_cases
    assert counts[4, 0] == {"LV": 4, "Myo": 0}
    for case in case_names(4, 2):
        write_case(raw, "Tr", case, classes=())
    with pytest.raises(InputError, match="the 2 training cases of seed 0 hold no class but the background"):
        prepare(raw, tmp_path / "other", GIVEN)


def rename_first(folder: Path, name: str) -> None:
    next(iter(sorted(folder.iterdir()))).rename(folder / name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: (raw / "labelsTr/patient001_z0.nii.gz").unlink(), "patient001_z0_0000.nii.gz is an image without"),
        (lambda raw: (raw / "imagesTs/patient007_z0_0000.nii.gz").unlink(), "patient007_z0.nii.gz is a label without"),
        (lambda raw: (raw / "imagesTr/notes.txt").write_text(""), "imagesTr/notes.txt is an extra file"),
        (lambda raw: (raw / "labelsTr/notes.txt").write_text(""), "labelsTr/notes.txt is an extra file"),
        (lambda raw: rename_first(raw / "imagesTr", "patient001_z0_0001.nii.gz"), "expected 1 channels"),
        (lambda raw: (raw / "dataset.json").unlink(), "holds no dataset.json"),
        (lambda raw: (raw / "dataset.json").write_text("{}"), "lacks channel_names, labels, file_ending"),
        (lambda raw: write_dataset_json(raw, dataset={}), 'lists its files under "dataset"'),
        (lambda raw: write_dataset_json(raw, labels={"background": 0, "LV": 1}), r"holds the label values \[2\]"),
        (lambda raw: shutil.rmtree(raw / "imagesTr"), "is a label without image"),
        (lambda raw: shutil.rmtree(raw / "labelsTs"), "no labelled test cases in imagesTs"),
        (
            lambda raw: write_nifti(raw / "labelsTs/patient007_z0.nii.gz", np.ones((40, 47), np.uint8)),
            "differ in their size .48 x 40 and 47 x 40.",
        ),
        (
            lambda raw: write_nifti(raw / "labelsTs/patient007_z0.nii.gz", np.ones((40, 48), np.uint8), (1.5, 1.3)),
            "differ in their spacing .1.5 x 1.25 and 1.5 x 1.3.",
        ),
        (
            lambda raw: write_nifti(
                raw / "labelsTs/patient007_z0.nii.gz", np.ones((40, 48), np.uint8), origin=(0.0, 1.0)
            ),
            "differ in their origin",
        ),
        (
            lambda raw: (raw / "imagesTs/patient007_z0_0000.nii.gz").write_bytes(b"not an image"),
            "patient007_z0_0000.nii.gz",
        ),
        (lambda raw: (raw / "splits_final.json").write_text("[]"), "expected nnU-Net's list of folds"),
        (lambda raw: edit_fold(raw, train=["nobody"]), "names case nobody, of which imagesTr holds no image"),
        (lambda raw: edit_fold(raw, val=[]), "fold 0 .* has no val cases"),
        (lambda raw: edit_fold(raw, val=["patient001_z0"]), "has case patient001_z0 in train and in val"),
        (lambda raw: edit_fold(raw, val=["patient005_z0"] * 2), "names a case twice"),
        (
            lambda raw: edit_fold(raw, val=["patient004_z1"], train=case_names(4, 2)[:-1]),
            r"patient patient004 has cases in the validation cases and in the training cases",
        ),
    ],
)
def test_a_source_that_is_not_sound_is_refused_in_one_sentence(raw, tmp_path, spoil, message):
    spoil(raw)
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "study", GIVEN)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def edit_fold(raw: Path, **changes) -> None:
    path = raw / "splits_final.json"
    path.write_text(json.dumps([{**json.loads(path.read_text())[0], **changes}]))


def test_a_small_shift_that_writers_make_is_no_other_geometry(raw, tmp_path):
    labels = np.ones((40, 48), np.uint8)
    write_nifti(raw / "labelsTs/patient007_z0.nii.gz", labels, (1.50001, 1.25), (0.0, 0.1))
    prepare(raw, tmp_path / "study", GIVEN)


def test_too_few_cases_and_unknown_options_are_refused(raw, tmp_path):
    with pytest.raises(InputError, match="9 training cases were asked for, and there are 8 left"):
        prepare(raw, tmp_path / "study", replace(GIVEN, sizes=(9,)))
    with pytest.raises(InputError, match="no planner 'Best'; it has ExperimentPlanner, ResEncUNetPlanner"):
        prepare(raw, tmp_path / "study", replace(GIVEN, options=PlanOptions(planner="Best")))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configuration": "3d"}, "'3d' is not supported; expected 2d or 3d_fullres"),
        ({"patch_size": (64, 64, 64)}, "the patch size is 64 64 64; expected 2 numbers"),
        ({"patch_size": (64, 4)}, "of at least 8"),
        ({"batch_size": 0}, "the batch size is 0"),
    ],
)
def test_impossible_plan_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PlanOptions(**options)


def test_plan_options_survive_writing_and_notice_edits(tmp_path):
    options = PlanOptions("2d", "nnUNetPlannerResEncM", (64, 96), 4)
    options.write(tmp_path, "digest")
    assert PlanOptions.read(tmp_path, "digest") == options
    assert options.note.endswith("planner nnUNetPlannerResEncM, patch set to 64 x 96, batch size set to 4")
    with pytest.raises(InputError, match="was edited or is another study's"):
        PlanOptions.read(tmp_path, "other")
    content = json.loads((tmp_path / "planning.json").read_text())
    (tmp_path / "planning.json").write_text(json.dumps({**content, "batch_size": 8}))
    with pytest.raises(InputError, match="was edited"):
        PlanOptions.read(tmp_path, "digest")


def test_data_sets_are_found_by_folder_number_and_name(raw, tmp_path, monkeypatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert find_source(raw) == raw
    with pytest.raises(SetupError, match=r"nnUNet_raw.* is not set"):
        find_source(7)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert find_source("7") == find_source("Dataset007_Hearts") == raw
    with pytest.raises(InputError, match=r"expected one data set 8 .* found none"):
        find_source(8)
    with pytest.raises(InputError, match="x/y is no folder"):
        find_source("x/y")


@pytest.mark.slow
@pytest.mark.parametrize(("split", "numbers"), [("given", (60, 120, 180)), ("patient", (246, 42, 72))])
def test_real_patients_are_never_parted(shared, tmp_path, split, numbers):
    from nnsam.datasets.challenge import convert_npz_dataset

    raw = tmp_path / "Dataset027_ACDC"
    convert_npz_dataset(shared / "data/cardiac_acdc", raw)
    counts = {"validation": numbers[1], "test": numbers[2]}
    protocol = prepare(raw, tmp_path / "study", StudyRequest((4, 8), (0, 1), split, **counts, planning="all")).protocol
    pool = set(protocol.hashes) - {*protocol.validation, *protocol.test}
    assert (len(pool), len(protocol.validation), len(protocol.test)) == numbers
    owners = [{case[:10] for case in cases} for cases in (pool, protocol.validation, protocol.test)]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 120
