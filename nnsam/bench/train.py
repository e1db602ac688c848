"""Times training steps of nnSAM's trainers against stock nnU-Net's, with nnU-Net's own unmodified train_step."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from nnsam.bench.measuring import Candidate, Timing, speedup, time_alternating
from nnsam.nnunet.commands import run_nnunet
from nnsam.nnunet.folders import NNUNET_FOLDERS
from nnsam.support.drafts import temporary_folder
from nnsam.support.machine import describe_machine

# The name of the row -> the trainer; the first one is what the others are compared with.
STOCK = "nnU-Net"
TRAINERS = {
    STOCK: "nnUNetTrainer",
    "nnSAM, encoder at 1024": "nnSAMTrainer",
    "nnSAM, encoder at 256": "nnSAMTrainer_sam256",
    "nnSAM, no SAM branch": "nnSAMLevelSetOnlyTrainer",
}
DATASET = "Dataset998_NnsamBench"


def bench_training(rounds: int = 10, size: int = 256, device: str = "cpu", warmup: int = 2) -> dict:
    """Measures steps of all trainers in turn, round by round, so that a busy machine slows all of them down alike.

    The SAM encoder has random weights, which cost what SAM's cost.

    Args:
        rounds: rounds that count.
        size: side of the phantom images; 256 gives 7 stages and a batch of 2.
        device: "cpu", "cuda" or "mps".
        warmup: rounds that do not count.

    Returns:
        The JSON object of `nnsam bench train`: `step_ratio_sam1024` and `step_ratio_sam256` (median of ours / stock
        over the rounds), `levelset_share` (target of a batch, on one core / step at 1024), `rows`, `device`, `machine`.
    """
    with _workspace() as folder, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plans = _prepare(folder, size)
        steps = {name: _step(trainer, plans, device) for name, trainer in TRAINERS.items()}
        timings = time_alternating({name: step for name, (step, _) in steps.items()}, rounds, warmup)
        targets = steps["nnSAM, encoder at 1024"][1]
        target_seconds = time_alternating({"targets": targets}, rounds + 1, 0)["targets"].median
    rows = [_row(name, timings[name], timings[STOCK]) for name in steps]
    ratios = {row["name"]: row["ratio"] for row in rows}
    return {
        "step_ratio_sam1024": ratios["nnSAM, encoder at 1024"],
        "step_ratio_sam256": ratios["nnSAM, encoder at 256"],
        "levelset_share": target_seconds / rows[1]["seconds"],
        "levelset_seconds": target_seconds,
        "rows": rows,
        "stages": plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["n_stages"],
        "device": device,
        "machine": describe_machine(),
    }


def _row(name: str, ours: Timing, stock: Timing) -> dict:
    ratios = speedup(ours, stock)
    return {
        "name": name,
        "trainer": TRAINERS[name],
        "seconds": ours.median,
        "ratio": ratios["speedup"],
        "ratio_low": ratios["speedup_low"],
        "ratio_high": ratios["speedup_high"],
    }


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """A temporary folder that nnU-Net takes for its three folders, with data loading in this process."""
    before = dict(os.environ)
    with temporary_folder() as root:
        for name in NNUNET_FOLDERS:
            (root / name).mkdir()
        os.environ.update({name: str(root / name) for name in NNUNET_FOLDERS})
        os.environ.update({"nnUNet_n_proc_DA": "0", "NNSAM_WEIGHTS": "random"})
        try:
            yield root
        finally:
            os.environ.clear()
            os.environ.update(before)


def _prepare(folder: Path, size: int) -> dict:
    """Makes, plans and preprocesses a phantom data set by nnU-Net's own command; returns the plans."""
    import json

    from nnsam.datasets.phantom import write_phantom_dataset

    write_phantom_dataset(folder / "nnUNet_raw" / DATASET, n_train=6, n_test=0, size=(size, size))
    options = ["-d", DATASET[7:10], "-c", "2d", "-np", "1", "-npfp", "1"]
    # nnU-Net's planner sets torch's number of threads from this variable, which must not be 0 there.
    environment = {"nnUNet_n_proc_DA": "1"}
    run_nnunet("nnUNetv2_plan_and_preprocess", options, environment=environment, log=folder / "log.txt")
    return json.loads((folder / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())


def _step(trainer: str, plans: dict, device: str) -> tuple[Candidate, Candidate]:
    """Returns one training step on a fixed batch, and the making of the level-set targets of that batch."""
    import copy
    import json

    import torch
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    cls = recursive_find_trainer_class_by_name(trainer)
    dataset_json = json.loads(Path(os.environ["nnUNet_preprocessed"], DATASET, "dataset.json").read_text())
    arguments = {**copy.deepcopy(plans), "continue_training": False}
    instance = cls(arguments, "2d", "all", dataset_json, torch.device(device))
    instance.on_train_start()
    instance.on_train_epoch_start()
    batch = next(instance.dataloader_train)

    def step(_: object) -> object:
        result = instance.train_step(batch)
        if device != "cpu":  # where work is only begun when the step returns
            getattr(torch, device).synchronize()
        return result

    def targets(_: object) -> object:
        append = instance.dataloader_train.data_loader.transforms.transforms[-1]
        return [append(segmentation=[sample]) for sample in batch["target"][0]]

    return step, targets
