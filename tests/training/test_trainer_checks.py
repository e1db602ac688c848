"""What trainers refuse, each with one sentence and before anything is written."""

import json
import shutil
from importlib.metadata import PackageNotFoundError

import pytest
from helpers.plans import dataset_json, make_plans
from helpers.toy import create

from nnsam.errors import InputError, SetupError
from nnsam.training.checks import check_configuration, check_fold, check_versions, release


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ("3d_fullres", "nnSAMTrainer.* works on 2D slices for now, but configuration '3d_fullres' is 3D: use 2d"),
        ("2d_cascade", "does not work in a cascade"),
        ("3d_lowres", "no configuration '3d_lowres'; they have 2d, 2d_cascade, 3d_fullres"),
    ],
)
def test_other_configurations(make_trainer, results, official, configuration, message):
    with pytest.raises(InputError, match=message) as caught:
        make_trainer("nnSAMTrainer_sam32", "all", configuration)
    assert "\n" not in str(caught.value)
    assert not results.exists()


@pytest.mark.parametrize("fold", [5, 17, -1])
def test_a_fold_that_does_not_exist(make_trainer, results, official, fold):
    with pytest.raises(InputError, match=f"fold {fold} does not exist: nnU-Net's default split has folds 0 to 4"):
        make_trainer("nnSAMTrainer_sam32", fold)
    assert not results.exists()


def test_folds_are_those_of_the_splits_file(tmp_path):
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}] * 7))
    for fold in (0, 6, "6", "all"):
        check_fold(fold, tmp_path, dataset_json(cases=2))
    with pytest.raises(InputError, match=r"splits_final.json of .* has folds 0 to 6"):
        check_fold(7, tmp_path, dataset_json())


def test_four_cases_are_too_few_for_the_default_split(tmp_path):
    with pytest.raises(InputError, match=r"has 4 training cases, too few .* into 5 folds; use fold 'all'"):
        check_fold(0, tmp_path, dataset_json(cases=4))
    check_fold("all", tmp_path, dataset_json(cases=4))
    check_fold(0, tmp_path, dataset_json(cases=5))
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    check_fold(0, tmp_path, dataset_json(cases=4))


@pytest.mark.parametrize("patch", [(8, 64), (64, 15)])
def test_a_patch_smaller_than_the_stride(patch):
    with pytest.raises(InputError, match=f"is {patch[0]} x {patch[1]} pixels, smaller than .* stride of 16"):
        check_configuration(make_plans(patch_size=patch), "2d", "nnSAMTrainer")
    check_configuration(make_plans(patch_size=(16, 16)), "2d", "nnSAMTrainer")


@pytest.mark.parametrize(
    ("package", "found", "fits"),
    [
        ("nnunetv2", "2.8.1", True),
        ("nnunetv2", "2.8.3", True),
        ("nnunetv2", "2.8", False),
        ("nnunetv2", "2.5.1", False),
        ("nnunetv2", "2.9.0", False),
        ("nnunetv2", "1.7.1", False),
        ("torch", "2.5.0", True),
        ("torch", "2.8.0+cpu", True),
        ("torch", "2.10.0+cu128", True),
        ("torch", "3.0", True),
        ("torch", "2.9.0", False),
        ("torch", "2.9.1+cu128", False),
        ("torch", "2.2.2", False),
        ("torch", "1.13.1", False),
    ],
)
def test_versions_of_nnunet_and_torch(package, found, fits):
    installed = {"nnunetv2": "2.8.1", "torch": "2.8.0", package: found}
    if fits:
        check_versions(installed.__getitem__)
        return
    with pytest.raises(SetupError, match=f"found {package} {found.split('+')[0]}.*pip install") as caught:
        check_versions(installed.__getitem__)
    assert "expected >=2." in str(caught.value)


def test_a_package_that_is_not_installed():
    def version(name):
        raise PackageNotFoundError(name)

    with pytest.raises(SetupError, match="nnunetv2 is not installed; install it with: pip install"):
        check_versions(version)


def test_the_bounds_are_those_of_setup_cfg(pytestconfig):
    text = (pytestconfig.rootpath / "setup.cfg").read_text()
    assert "nnunetv2>=2.8.1,<2.9\n" in text
    assert "torch>=2.5,!=2.9.*\n" in text


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.8.1", (2, 8, 1)), ("2.9.0a0+git1", (2, 9)), ("2.10.0+cu128", (2, 10, 0)), ("", ())]
)
def test_versions_are_read_up_to_the_first_word(text, numbers):
    assert release(text) == numbers


def test_an_unsupported_version_stops_a_trainer_before_it_writes(
    make_trainer, results, official, monkeypatch, tmp_path
):
    (tmp_path / "nnunetv2-2.9.0.dist-info").mkdir()
    (tmp_path / "nnunetv2-2.9.0.dist-info" / "METADATA").write_text("Name: nnunetv2\nVersion: 2.9.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match=r"found nnunetv2 2\.9\.0"):
        make_trainer()
    assert not results.exists()


@pytest.mark.parametrize("variable", ["NNSAM_CPU_PRECISION", "NNSAM_CPU_ENCODER"])
def test_an_unknown_cpu_setting_stops_a_trainer_before_it_writes(
    make_trainer, results, official, monkeypatch, variable
):
    monkeypatch.setenv(variable, "fast")
    with pytest.raises(InputError, match=f"{variable}='fast' is unknown; expected one of auto, "):
        make_trainer()
    assert not results.exists()


def test_a_good_request_is_accepted_and_makes_the_folder(
    make_trainer, results, official
):  # the refusals above can fail
    for fold in (0, 4, "all"):
        make_trainer("nnSAMTrainer_sam32", fold)
    folders = {path.name for path in results.glob("Dataset901_Toy/nnSAMTrainer_sam32__nnUNetPlans__2d/*")}
    assert {"fold_0", "fold_4", "fold_all"} <= folders


def test_too_few_cases_in_a_real_data_set(toy, make_trainer, results, official, monkeypatch, tmp_path):
    shutil.copytree(toy / "Dataset901_Toy", tmp_path / "fewer" / "Dataset901_Toy")
    path = tmp_path / "fewer" / "Dataset901_Toy" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"numTraining": 4}))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "fewer"))
    with pytest.raises(InputError, match="Dataset901_Toy has 4 training cases"):
        create(tmp_path / "fewer", "nnSAMTrainer_sam32", 0)
    assert not results.exists()
    create(tmp_path / "fewer", "nnSAMTrainer_sam32", "all")


def test_a_network_with_too_few_stages_is_refused():
    with pytest.raises(InputError, match="needs a network of at least 5 stages, and configuration '2d' has 4"):
        check_configuration(make_plans(stages=4), "2d", "nnSAMLegacyTrainer", min_stages=5)
    check_configuration(make_plans(stages=5), "2d", "nnSAMLegacyTrainer", min_stages=5)


def test_a_trainer_without_sam_takes_small_patches():
    check_configuration(make_plans(patch_size=(8, 8), stages=3), "2d", "nnSAMLevelSetOnlyTrainer", sam=False)
