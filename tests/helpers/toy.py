"""Trainers on the toy data set, as nnU-Net's command makes them."""

import json
from pathlib import Path

import pytest
import torch

from helpers.official_names import skip_initialisation
from nnsam.training.trainer_names import trainer_class

# Stands for the SHA-256 of the official checkpoint.
SHA = "5a" * 32
TRAINER = "nnSAMTrainer_2epochs_2iters_sam32_seed1"


def set_up(patch: pytest.MonkeyPatch, toy: Path, results: Path) -> None:
    """Environment of a training on the toy data: one process, exact, reproducible, quick to set up."""
    skip_initialisation(patch)
    for name, value in {
        "nnUNet_raw": toy.parent / "raw",
        "nnUNet_preprocessed": toy,
        "nnUNet_results": results,
        "nnUNet_n_proc_DA": 0,
        "NNSAM_CPU_PRECISION": "float32",
        "NNSAM_CPU_ENCODER": "torch",
    }.items():
        patch.setenv(name, str(value))


def create(toy: Path, name: str = TRAINER, fold: int | str = "all", configuration: str = "2d", **changes):
    """Instantiates a trainer as nnUNetv2_train does; `changes` replace entries of the plans."""
    folder = toy / "Dataset901_Toy"
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False} | changes
    dataset = json.loads((folder / "dataset.json").read_text())
    return trainer_class(name)(plans, configuration, fold, dataset, device=torch.device("cpu"))
