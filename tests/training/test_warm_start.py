"""Reading nnU-Net checkpoints safely; what does not fit is refused. The whole way is an end-to-end test."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nnsam.errors import InputError
from nnsam.nnunet.checkpoint import read_nnunet_checkpoint
from nnsam.training.warm_start import write_warm_start


def checkpoint(**changes):
    content = {
        "network_weights": {"encoder.weight": torch.zeros(2)},
        "init_args": {"plans": {}, "configuration": "2d", "fold": 0, "dataset_json": {}, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "logging": {"train_losses": [np.float32(0.5), np.float64(0.25)], "ema_fg_dice": [np.float16(0.5)]},
        "optimizer_state": {"state": {}},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
    }
    return {**content, **changes}


def test_what_nnunet_logs_can_be_read_without_running_code(tmp_path):
    torch.save(checkpoint(), tmp_path / "checkpoint_final.pth")
    assert read_nnunet_checkpoint(tmp_path / "checkpoint_final.pth")["trainer_name"] == "nnUNetTrainer"


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    mark = tmp_path / "code_was_run"
    torch.save(checkpoint(logging=Malicious(mark)), tmp_path / "bad.pth")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_nnunet_checkpoint(tmp_path / "bad.pth")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists(), "the file would have run code"


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 truncated"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_nnunet_checkpoint(tmp_path / "bad.pth")


def test_a_picture_is_no_checkpoint_of_pytorch(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    with pytest.raises(InputError, match=r"photo\.jpg .*: it is no checkpoint of PyTorch; give a checkpoint_"):
        read_nnunet_checkpoint(tmp_path / "photo.jpg")
    old = tmp_path / "old.pth"
    torch.save(checkpoint(), old, _use_new_zipfile_serialization=False)
    assert read_nnunet_checkpoint(old)["trainer_name"] == checkpoint()["trainer_name"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*absent\.pth"):
        read_nnunet_checkpoint(tmp_path / "absent.pth")


def test_other_torch_files_are_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="lacks init_args, network_weights, trainer_name"):
        read_nnunet_checkpoint(tmp_path / "other.pth")


def test_an_unknown_trainer_and_a_missing_folder_are_refused(tmp_path):
    torch.save(checkpoint(), tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match="unknown trainer 'nnSAMWrongTrainer'"):
        write_warm_start(tmp_path / "checkpoint.pth", tmp_path / "start.pth", "nnSAMWrongTrainer")
    with pytest.raises(InputError, match="does not exist; create it"):
        write_warm_start(tmp_path / "checkpoint.pth", tmp_path / "absent" / "start.pth")
    assert not (tmp_path / "start.pth").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"plans": None, "configuration": "2d", "dataset_json": {}},
        {"plans": {}, "configuration": [], "dataset_json": {}},
        {"plans": {}, "configuration": "2d", "dataset_json": None},
        {"plans": {"configurations": {"2d": {}}}, "configuration": "2d", "dataset_json": {}},
        {"plans": {"configurations": {"2d": {"patch_size": None}}}, "configuration": "2d", "dataset_json": {}},
        {
            "plans": {"configurations": {"2d": {"patch_size": [64, 64], "architecture": {"arch_kwargs": None}}}},
            "configuration": "2d",
            "dataset_json": {},
        },
    ],
)
def test_checkpoints_that_do_not_say_their_training_are_one_sentence(tmp_path, arguments):
    torch.save(checkpoint(init_args=arguments), tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"odd\.pth"):
        write_warm_start(tmp_path / "odd.pth", tmp_path / "start.pth")
    assert not (tmp_path / "start.pth").exists()
