"""Planning sees the training cases alone, happens once, and survives being killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.raw_study import case_names, make_raw, write_case

from nnsam.errors import InputError, NnsamError
from nnsam.fewshot.study import layout, planning
from nnsam.fewshot.study.planning import PlanOptions, override, plan_subset
from nnsam.fewshot.study.prepare import StudyRequest, prepare

REQUEST = StudyRequest(sizes=(2, 3), seeds=(0,), rule="given")
PLANS = f"{layout.PLANS}.json"


def fake_nnunet(command, arguments, *, environment, log):
    """What nnU-Net's commands leave behind, without its minutes: the fingerprint names the cases that it came from."""
    number, folder = arguments[arguments.index("-d") + 1], Path(environment["nnUNet_preprocessed"])
    (raw,) = Path(environment["nnUNet_raw"]).glob(f"Dataset{number}_*")
    folder = folder / raw.name
    folder.mkdir(exist_ok=True)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").iterdir())
    if command == "nnUNetv2_plan_and_preprocess":
        (folder / "dataset_fingerprint.json").write_text(json.dumps(cases))
        numbers = {"numTraining": json.loads((raw / "dataset.json").read_text())["numTraining"]}
        (folder / PLANS).write_text(json.dumps({"configurations": {"2d": {"batch_size": 12}}, **numbers}))
    else:
        assert command == "nnUNetv2_preprocess"
        (folder / f"{layout.PLANS}_2d").mkdir()
        for case in cases:
            (folder / f"{layout.PLANS}_2d" / f"{case}.b2nd").touch()


@pytest.fixture
def raw(tmp_path):
    return make_raw(tmp_path / "Dataset007_Hearts")


@pytest.fixture
def fake(monkeypatch):
    calls = []

    def counted(command, arguments, **options):
        calls.append(command)
        fake_nnunet(command, arguments, **options)

    monkeypatch.setattr(planning, "run_nnunet", counted)
    return calls


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def test_plans_come_from_the_training_cases_and_all_cases_are_preprocessed(raw, tmp_path, fake):
    prepared = prepare(raw, tmp_path / "study", REQUEST)
    planned = plan_subset(prepared.folder, 2, 0)
    training, validation = prepared.protocol.subsets[2, 0], prepared.protocol.validation
    assert read(planned.folder, "dataset_fingerprint.json") == sorted(training)
    assert read(planned.folder, PLANS)["numTraining"] == 2
    assert read(planned.folder, "dataset.json")["numTraining"] == 2 + len(validation)
    assert read(planned.folder, "splits_final.json") == [{"train": list(training), "val": list(validation)}]
    preprocessed = {path.stem for path in (planned.folder / "nnUNetPlans_2d").iterdir()}
    assert preprocessed == {*training, *validation}
    assert [command.split()[0] for command in planned.commands] == fake


def test_nnunets_way_plans_from_all_cases_but_the_tests(raw, tmp_path, fake):
    prepare(raw, tmp_path / "study", replace(REQUEST, planning="all"))
    folder = plan_subset(tmp_path / "study", 2, 0).folder
    assert read(folder, "dataset_fingerprint.json") == case_names(6, 2)
    assert read(folder, PLANS)["numTraining"] == 12


def test_a_planned_subset_is_kept(raw, tmp_path, fake):
    prepare(raw, tmp_path / "study", REQUEST)
    first = plan_subset(tmp_path / "study", 2, 0)
    again = plan_subset(tmp_path / "study", 2, 0)
    assert (first.is_new, again.is_new, again.commands) == (True, False, first.commands)
    assert len(fake) == 2
    assert sorted(path.name for path in first.folder.parent.iterdir()) == ["Dataset100_n2s0"]


def test_options_reach_nnunet_and_the_plans(raw, tmp_path, fake):
    prepare(
        raw, tmp_path / "study", replace(REQUEST, options=PlanOptions(planner="nnUNetPlannerResEncM", batch_size=5))
    )
    planned = plan_subset(tmp_path / "study", 3, 0, processes=2)
    assert "-npfp 2 -pl nnUNetPlannerResEncM -overwrite_plans_name nnUNetPlans" in planned.commands[0]
    assert "-c 2d -np 2" in planned.commands[1]
    assert read(planned.folder, PLANS)["configurations"]["2d"]["batch_size"] == 5


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: (folder / PLANS).write_text("{}"), r"nnUNetPlans\.json is missing or not the planned one"),
        (lambda folder: (folder / "splits_final.json").unlink(), r"splits_final\.json is missing"),
        (lambda folder: shutil.rmtree(folder / "nnUNetPlans_2d"), r"\.b2nd is missing"),
        (lambda folder: (folder / planning.MARKER).unlink(), "was not made by this study or was edited"),
        (lambda folder: (folder / planning.MARKER).write_text("[]"), "was not made by this study or was edited"),
    ],
)
def test_an_edited_plan_is_refused(raw, tmp_path, fake, edit, message):
    prepare(raw, tmp_path / "study", REQUEST)
    edit(plan_subset(tmp_path / "study", 2, 0).folder)
    with pytest.raises(InputError, match=message):
        plan_subset(tmp_path / "study", 2, 0)


def test_the_plan_of_another_study_is_refused(raw, tmp_path, fake):
    prepare(raw, tmp_path / "one", REQUEST)
    prepare(raw, tmp_path / "two", replace(REQUEST, validation=1))
    shutil.copytree(
        plan_subset(tmp_path / "one", 2, 0).folder, tmp_path / "two/nnunet/nnUNet_preprocessed/Dataset100_n2s0"
    )
    with pytest.raises(InputError, match="belongs to another study"):
        plan_subset(tmp_path / "two", 2, 0)


def test_a_case_that_changed_since_prepare_is_not_planned_from(raw, tmp_path, fake):
    case = prepare(raw, tmp_path / "study", REQUEST).protocol.subsets[2, 0][0]
    path = raw / f"imagesTr/{case}_0000.nii.gz"
    with path.open("r+b") as file:  # in place: the hard link in the study changes too
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    with pytest.raises(InputError, match=f"case {case} .* is not the one that `prepare` found"):
        plan_subset(tmp_path / "study", 2, 0)
    assert not fake


def test_unknown_subsets_and_configurations_are_refused(raw, tmp_path, fake):
    prepare(raw, tmp_path / "study", replace(REQUEST, options=PlanOptions("3d_fullres")))
    with pytest.raises(InputError, match="no subset of size 5 and seed 0; it has size 2 seed 0, size 3 seed 0"):
        plan_subset(tmp_path / "study", 5, 0)
    with pytest.raises(InputError, match="nnU-Net plans no 3d_fullres for these data, only 2d"):
        plan_subset(tmp_path / "study", 2, 0)
    assert not list(layout.preprocessed_folder(tmp_path / "study").iterdir())


def test_a_failure_of_nnunet_leaves_nothing_and_is_told(raw, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise NnsamError("nnUNetv2_preprocess failed")

    monkeypatch.setattr(planning, "run_nnunet", fail)
    prepare(raw, tmp_path / "study", REQUEST)
    with pytest.raises(NnsamError, match="nnUNetv2_preprocess failed"):
        plan_subset(tmp_path / "study", 2, 0)
    assert not list(layout.preprocessed_folder(tmp_path / "study").iterdir())


# Planned, not yet preprocessed, and killed.
PLAN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from nnsam.fewshot.study import planning
def half(command, arguments, *, environment, log):
    if command == "nnUNetv2_preprocess":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder,) = Path(environment["nnUNet_raw"]).iterdir()
    folder = Path(environment["nnUNet_preprocessed"], folder.name)
    folder.mkdir()
    (folder / "nnUNetPlans.json").write_text('{"configurations": {"2d": {}}}')
planning.run_nnunet = half
planning.plan_subset(Path(sys.argv[1]), 2, 0)
"""


def test_after_kill_9_the_next_call_plans_anew(raw, tmp_path, fake):
    prepare(raw, tmp_path / "study", REQUEST)
    process = subprocess.run([sys.executable, "-c", PLAN_AND_DIE, str(tmp_path / "study")], check=False, timeout=300)
    assert process.returncode == -signal.SIGKILL
    preprocessed = layout.preprocessed_folder(tmp_path / "study")
    assert [path.name.split(".")[1] for path in preprocessed.iterdir()] == ["Dataset100_n2s0"]  # hidden, half-finished
    assert plan_subset(tmp_path / "study", 2, 0).is_new
    assert [path.name for path in preprocessed.iterdir()] == ["Dataset100_n2s0"]


def test_two_at_once_plan_once(raw, tmp_path, monkeypatch):
    def slowly(*arguments, **options):
        time.sleep(0.2)
        fake_nnunet(*arguments, **options)

    monkeypatch.setattr(planning, "run_nnunet", slowly)
    prepare(raw, tmp_path / "study", REQUEST)
    with ThreadPoolExecutor(3) as pool:
        planned = list(pool.map(lambda _: plan_subset(tmp_path / "study", 2, 0), range(3)))
    assert sorted(each.is_new for each in planned) == [False, False, True]


def planned_network(stages: int = 7) -> dict:
    kwargs = {
        "n_stages": stages,
        "features_per_stage": [min(512, 32 * 2**index) for index in range(stages)],
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    plan = {"batch_size": 12, "patch_size": [256, 256], "spacing": [1.0, 1.0], "architecture": {"arch_kwargs": kwargs}}
    return {"configurations": {"2d": plan}}


@pytest.mark.parametrize(
    ("patch", "stages", "last"),
    [((256, 256), 7, [2, 2]), ((64, 64), 5, [2, 2]), ((64, 96), 5, [2, 2]), ((32, 128), 5, [1, 2])],
)
def test_a_smaller_patch_takes_the_depth_that_nnunet_gives_it(patch, stages, last):
    # Both axes are halved down to 4; an axis that is left alone, only while it stays above 6: 256 / 2^6, 64 / 2^4,
    # and 32 x 128 to 4 x 16 in three steps, then 4 x 8.
    plans = planned_network()
    override(plans, PlanOptions(patch_size=patch, batch_size=3))
    plan = plans["configurations"]["2d"]
    kwargs = plan["architecture"]["arch_kwargs"]
    assert (plan["patch_size"], plan["batch_size"], kwargs["n_stages"]) == (list(patch), 3, stages)
    assert list(kwargs["strides"][-1]) == last
    assert {name: len(kwargs[name]) for name in kwargs if name != "n_stages"} == {
        **dict.fromkeys(("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"), stages),
        "n_conv_per_stage_decoder": stages - 1,
    }


def test_a_patch_that_does_not_fit_the_strides_is_refused():
    with pytest.raises(InputError, match=r"shrinks axis 1 to 1/16; choose a multiple of that, e\.g\. 80"):
        override(planned_network(), PlanOptions(patch_size=(64, 70)))


def change_validation_and_test(raw: Path) -> None:
    """Other intensities, and larger images, where no training case is."""
    for case in case_names(2, 2, 5):
        write_case(raw, "Tr", case, brightness=900, shape=(72, 80))
    for case in case_names(2, 2, 7):
        write_case(raw, "Ts", case, brightness=900, shape=(72, 80))


def fold_0(study: Path, folder: Path) -> dict[str, list[str]]:
    """Training and validation cases as nnU-Net's own trainer finds them."""
    code = (
        "import json, sys, torch\n"
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "plans, dataset = (json.load(open(path)) for path in sys.argv[1:])\n"
        "plans['continue_training'] = False\n"
        "trainer = nnUNetTrainer(plans, '2d', 0, dataset, torch.device('cpu'))\n"
        "training, validation = trainer.get_tr_and_val_datasets()\n"
        "print(json.dumps([list(training.identifiers), list(validation.identifiers)]))\n"
    )
    arguments = [str(folder / PLANS), str(folder / "dataset.json")]
    environment = {**os.environ, **layout.nnunet_environment(study)}
    run = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(zip(("train", "val"), json.loads(output.splitlines()[-1]), strict=True))


QUICK = """
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor as Class
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import {function}
whole = Class.__init__
def quick(self, *args, **kwargs):
    whole(self, *args, **kwargs)
    self.num_foreground_voxels_for_intensitystats = 1e5
Class.__init__ = quick
{function}()
"""


def real_nnunet(command, arguments, *, environment, log):
    """nnU-Net's own command, made quicker: fewer intensities (its 10^8 take 15 s and 2 GB)."""
    function = {"nnUNetv2_plan_and_preprocess": "plan_and_preprocess_entry", "nnUNetv2_preprocess": "preprocess_entry"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        run = [sys.executable, "-c", QUICK.format(function=function[command]), *arguments]
        subprocess.run(run, env={**os.environ, **environment}, stdout=file, stderr=file, check=True)


def only_plan(command, arguments, **options):
    if command == "nnUNetv2_plan_and_preprocess":
        real_nnunet(command, arguments, **options)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_validation_and_test_images_change_neither_fingerprint_nor_plans(raw, tmp_path, monkeypatch):
    folders = []
    for name, nnunet in (("before", only_plan), ("after", real_nnunet)):
        monkeypatch.setattr(planning, "run_nnunet", nnunet)
        prepared = prepare(raw, tmp_path / name, replace(REQUEST, sizes=(2,)))
        folders.append(plan_subset(prepared.folder, 2, 0).folder)
        change_validation_and_test(raw)
    for name in ("dataset_fingerprint.json", PLANS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert len(read(folders[1], "dataset_fingerprint.json")["shapes_after_crop"]) == 2
    expected = {"train": sorted(prepared.protocol.subsets[2, 0]), "val": list(prepared.protocol.validation)}
    assert {name: sorted(cases) for name, cases in fold_0(prepared.folder, folders[1]).items()} == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_with_nnunets_way_validation_images_change_both(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "run_nnunet", only_plan)
    files = []
    for name in ("before", "after"):
        prepared = prepare(raw, tmp_path / name, replace(REQUEST, sizes=(2,), planning="all"))
        folder = plan_subset(prepared.folder, 2, 0).folder
        files.append([(folder / file).read_bytes() for file in ("dataset_fingerprint.json", PLANS)])
        change_validation_and_test(raw)
    assert files[0][0] != files[1][0]
    assert files[0][1] != files[1][1]
