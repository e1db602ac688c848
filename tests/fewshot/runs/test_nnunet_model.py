"""What nnU-Net is asked to do, and what counts as trained."""

import os
import zipfile

import pytest

from nnsam.errors import InputError
from nnsam.fewshot.runs import nnunet_model
from nnsam.fewshot.runs.nnunet_model import NnunetModel, processor_environment
from nnsam.fewshot.runs.options import StudyRunOptions

OPTIONS = StudyRunOptions(threads=2)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model whose commands are noted in `model.calls`; training leaves a final checkpoint."""
    model = NnunetModel(tmp_path, "Dataset100_n4s0", "2d", "nnSAMTrainer_seed0", tmp_path / "log.txt")
    model.calls = []

    def note(command, arguments, **others):
        model.calls.append((command, arguments, others))
        if command == "nnUNetv2_train":
            write_checkpoint(model, "checkpoint_final.pth")

    monkeypatch.setattr(nnunet_model, "run_nnunet", note)
    return model


def write_checkpoint(model, name, whole=True):
    folder = model.folder / "fold_0"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as file:
        file.writestr("data.pkl", "x" * 1000)
    if not whole:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])


def test_folder_is_nnunets(model, tmp_path):
    name = "nnSAMTrainer_seed0__nnUNetPlans__2d"
    assert model.folder == tmp_path / "nnunet" / "nnUNet_results" / "Dataset100_n4s0" / name


def test_training_from_the_start(model):
    lines = []
    model.record = lines.append
    model.train(OPTIONS)
    command, arguments, others = model.calls[0]
    assert (command, "--c" in arguments) == ("nnUNetv2_train", False)
    assert arguments[:3] == ["Dataset100_n4s0", "2d", "0"]
    assert others["stop_after"] == "Training done."
    assert others["threads"] == 2
    assert lines == ["nnUNetv2_train Dataset100_n4s0 2d 0 -tr nnSAMTrainer_seed0 -p nnUNetPlans -device cpu"]


@pytest.mark.parametrize("name", ["checkpoint_latest.pth", "checkpoint_best.pth"])
def test_training_goes_on_from_a_whole_checkpoint(model, name):
    write_checkpoint(model, name)
    model.train(OPTIONS)
    assert "--c" in model.calls[0][1]


def test_half_a_checkpoint_is_removed_and_the_older_one_used(model):
    write_checkpoint(model, "checkpoint_final.pth", whole=False)
    write_checkpoint(model, "checkpoint_latest.pth", whole=False)
    assert not model.is_trained
    model.train(OPTIONS)
    assert "--c" not in model.calls[0][1]
    assert not (model.folder / "fold_0" / "checkpoint_latest.pth").exists()
    assert model.is_trained


def test_training_without_a_result(model, monkeypatch):
    monkeypatch.setattr(nnunet_model, "run_nnunet", lambda *arguments, **others: None)
    with pytest.raises(InputError, match="ended without"):
        model.train(OPTIONS)


def test_new_run_does_not_take_over_a_training(model):
    model.check_new()
    write_checkpoint(model, "checkpoint_best.pth")
    with pytest.raises(InputError, match=r"no run\.json"):
        model.check_new()


@pytest.mark.parametrize("tta", [False, True])
def test_prediction(model, tmp_path, tta):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plans.json").write_text("{}")
    model.predict(tmp_path / "imagesTs", tmp_path / "out", StudyRunOptions(tta=tta))
    arguments = model.calls[0][1]
    assert ("--disable_tta" in arguments) is not tta
    assert arguments[arguments.index("-chk") + 1] == "checkpoint_final.pth"
    assert not list((tmp_path / "out").iterdir())


def test_encoder_weights_are_noted(model):
    assert model.sam_weights is None
    write_checkpoint(model, "checkpoint_final.pth")
    (model.folder / "fold_0" / "sam_weights.json").write_text('{"kind": "random"}')
    assert model.sam_weights == {"kind": "random"}


def test_processors(monkeypatch):
    for name in ("nnUNet_n_proc_DA", "nnUNet_def_n_proc", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert processor_environment(OPTIONS)["nnUNet_n_proc_DA"] == "0"
    assert processor_environment(OPTIONS)["OMP_NUM_THREADS"] == "2"
    assert processor_environment(StudyRunOptions(threads=8, device="cuda"))["nnUNet_n_proc_DA"] == "7"
    assert "OMP_NUM_THREADS" not in processor_environment(StudyRunOptions())
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    assert "nnUNet_n_proc_DA" not in processor_environment(OPTIONS)
    assert os.environ["nnUNet_n_proc_DA"] == "3"
