"""Trains and predicts with nnU-Net's commands, in the study's own folders."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.study import layout
from nnsam.nnunet.commands import run_nnunet
from nnsam.support.files import read_json
from nnsam.training.loss_history import unlearnt_level_sets

FINAL = "checkpoint_final.pth"
_CHECKPOINTS = (FINAL, "checkpoint_latest.pth", "checkpoint_best.pth")
# What nnU-Net prints between the last checkpoint and its own validation, which it has no option to leave out.
_TRAINED = "Training done."


class NnunetModel:
    """A model of nnU-Net: one trainer on one subset.

    Args:
        experiment: the study's folder.
        dataset: name of the subset's data set.
        configuration: nnU-Net's, e.g. "2d".
        trainer: name of the trainer.
        log: file that gets what nnU-Net prints.
        record: called with each command, as text with paths relative to the study's folder.
    """

    def __init__(
        self,
        experiment: Path,
        dataset: str,
        configuration: str,
        trainer: str,
        log: Path,
        record: Callable[[str], object] = lambda command: None,
    ):
        self.experiment, self.dataset, self.configuration, self.trainer = experiment, dataset, configuration, trainer
        self.log, self.record = log, record
        self.folder = layout.results_folder(experiment) / dataset / f"{trainer}__{layout.PLANS}__{configuration}"

    @property
    def is_trained(self) -> bool:
        """Whether nnU-Net has finished the training."""
        return _is_whole(self._fold / FINAL)

    @property
    def sam_weights(self) -> Any:
        """What nnSAM's trainer recorded of its encoder's weights; None without an encoder."""
        path = self.folder / "fold_0" / "sam_weights.json"
        return read_json(path, "restore it, or train again") if path.is_file() else None

    @property
    def warning(self) -> str:
        """What the training's own record warns of; empty for nothing."""
        return "its level-set head learnt nothing" if unlearnt_level_sets(self._fold) else ""

    def check_new(self) -> None:
        """Raises InputError where there is a training that no run has made."""
        if self._fold.exists():
            raise InputError(
                f"{self._fold} holds a training of which there is no run.json; restore it, or remove this folder"
            )

    def train(self, options: StudyRunOptions) -> None:
        """Trains, or goes on from the last checkpoint that can be read.

        Raises:
            NnsamError: nnU-Net failed.
        """
        arguments = [self.dataset, self.configuration, "0", "-tr", self.trainer, "-p", layout.PLANS]
        arguments += ["-device", options.device]
        if self._has_checkpoint():
            arguments.append("--c")
        self._run("nnUNetv2_train", arguments, options, "" if options.nnunet_validation else _TRAINED)
        if not self.is_trained:
            raise InputError(f"nnUNetv2_train ended without {self._fold / FINAL}; see {self.log.name}")

    def predict(self, images: Path, output: Path, options: StudyRunOptions) -> None:
        """Writes label maps, and nothing else, for a folder of images.

        Raises:
            NnsamError: nnU-Net failed.
        """
        arguments = ["-i", str(images), "-o", str(output), "-d", self.dataset, "-c", self.configuration]
        arguments += ["-tr", self.trainer, "-p", layout.PLANS, "-f", "0", "-chk", FINAL, "-device", options.device]
        # No processes for reading and writing: small images are quicker without, and nothing is left behind by a kill.
        arguments += ["-npp", "0", "-nps", "0", *([] if options.tta else ["--disable_tta"])]
        self._run("nnUNetv2_predict", arguments, options)
        for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
            (output / name).unlink(missing_ok=True)

    @property
    def _fold(self) -> Path:
        return self.folder / "fold_0"

    def _has_checkpoint(self) -> bool:
        """Whether nnU-Net finds a checkpoint; removes those that were being written when the process was killed."""
        for name in _CHECKPOINTS:
            path = self._fold / name
            if path.exists() and not _is_whole(path):
                path.unlink()
        return any((self._fold / name).exists() for name in _CHECKPOINTS)

    def _run(self, command: str, arguments: list[str], options: StudyRunOptions, stop_after: str = "") -> None:
        self.record(" ".join([command, *arguments]).replace(f"{self.experiment}{os.sep}", ""))
        run_nnunet(
            command,
            arguments,
            environment={**layout.nnunet_environment(self.experiment), **processor_environment(options)},
            log=self.log,
            threads=options.threads,
            stop_after=stop_after,
        )


def processor_environment(options: StudyRunOptions) -> dict[str, str]:
    """Environment variables that keep nnU-Net and its libraries on a run's share of the processors.

    On the CPU, images are augmented in the process that trains: more processes would take the cores from the network,
    and only so does a seed give the same augmentation each time. What the user has set stays.
    """
    threads = options.threads or os.cpu_count() or 1
    augmentation = "0" if options.device == "cpu" else str(max(1, threads - 1))
    values = {"nnUNet_n_proc_DA": augmentation, "nnUNet_def_n_proc": str(threads)}
    if options.threads:
        values |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {name: value for name, value in values.items() if name not in os.environ}


def _is_whole(checkpoint: Path) -> bool:
    """PyTorch's checkpoints are zip files, whose directory is written last."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)
