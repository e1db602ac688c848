"""Makes a bundle out of a trained model folder: complete and equal to the trained model, or nothing."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.exporting.calibration import CalibrationSet, calibration_patches
from nnsam.exporting.comparison import (
    LogitDifference,
    Measured,
    MeasuredPrecision,
    NetworkFiles,
    Run,
    Workbench,
    choose,
    fused_is_faster,
    pictures_of,
    pytorch_logits,
    worst,
)
from nnsam.exporting.int8 import Int8Networks, Tell, int8_is_wanted
from nnsam.exporting.manifest import README, complete, describe_network, readme_text
from nnsam.exporting.network_files import NetworkWriter, check_onnx
from nnsam.inference.bundle import Bundle, is_bundle, write_manifest
from nnsam.nnunet.description import describe
from nnsam.nnunet.model_folder import TrainedModel, load_trained_model
from nnsam.support.files import replaced_folder
from nnsam.support.openvino import check_precision

# Patches to compare precisions on, by the dimensions of a patch.
PATCHES = {2: 32, 3: 8}
MIN_PATCHES = 4
# Its network has no U-Net to split the image encoder from.
_NOT_EXPORTED = "nnSAMAutoSAMTrainer"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def export_model(
    folder: str | Path,
    output: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    precision: str = "auto",
    images: str | Path | None = None,
    calibration: int | None = None,
    onnx: bool = False,
    int8: bool = True,
    overwrite: bool = False,
    tell: Tell = lambda sentence: None,
    workbench: Workbench | None = None,
) -> Bundle:
    """Exports a trained model; nothing is left behind unless it is complete and equal to the trained one.

    Args:
        folder: nnU-Net's model folder, of a trainer of this package or of nnU-Net.
        output: the bundle to make.
        folds: folds to take; None: see :func:`nnsam.nnunet.model_folder.load_trained_model`.
        checkpoint: file in each fold.
        precision: what the bundle uses by default: "f32", "bf16", "int8", or "auto", the fastest of those whose masks
            agree with float32's.
        images: images to compare precisions on, see :func:`nnsam.exporting.calibration.calibration_patches`.
        calibration: number of patches of these images; None: 32 in 2D, 8 in 3D.
        onnx: write ONNX files, too.
        int8: try int8 under "auto", where there are images and NNCF; the search takes longer than all the rest.
        overwrite: replace an older bundle.
        tell: gets a sentence when a step begins.
        workbench: runs and times the networks; None: on this CPU, in every precision that it computes in hardware.

    Raises:
        InputError: the model, the images or `output` do not fit, the disk is full, or the exported network is not
            within the tolerance of PyTorch, see :mod:`nnsam.exporting.comparison`.
        SetupError: a package is missing, or the CPU lacks the precision.
    """
    workbench = workbench or Workbench()
    precision = check_precision(precision)
    if precision == "int8" and not int8:
        raise InputError("int8 is asked for and left out at once; choose --precision int8 or --no-int8")
    if precision == "bf16" and "bf16" not in workbench.precisions:
        raise SetupError("this CPU has no bfloat16 arithmetic, so it cannot be measured; use --precision auto or f32")
    if calibration is not None and calibration < MIN_PATCHES:
        raise InputError(f"{calibration} calibration patches are too few; give at least {MIN_PATCHES}")
    if onnx:
        check_onnx()
    try:
        _check_replaceable(Path(output).absolute(), overwrite)
        with replaced_folder(output) as draft_folder:
            model = load_trained_model(folder, folds, checkpoint)
            _refuse_baselines(model)
            description = describe(model)
            patches = calibration_patches(model, images, calibration or PATCHES[len(model.patch_size)])
            for sentence in (model.note, f"precisions are compared on {patches.origin}"):
                if sentence:
                    tell(sentence)
            with_int8, note = int8_is_wanted(precision, patches, images is not None, int8)
            networks = Int8Networks(patches, model.has_regions, tell) if with_int8 else None
            draft = BundleDraft(draft_folder, model, description, patches, workbench, networks, onnx, tell)
            for fold, network in model.networks():
                draft.add_fold(fold, network)
            draft.finish(precision, note)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise InputError(f"{output} cannot be written: the disk is full; free space or name another disk") from None
        raise InputError(f"{output} cannot be written ({error}); is the disk full?") from error
    return Bundle.open(output)


def _check_replaceable(output: Path, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_bundle(output):
        raise InputError(f"{output} already exists and is no bundle; choose another output, nothing is overwritten")
    if not overwrite:
        raise InputError(f"{output} already exists; choose another output, or replace it with --overwrite")


def _refuse_baselines(model: TrainedModel) -> None:
    if model.trainer.split("_")[0] == _NOT_EXPORTED:
        raise InputError(
            f"{model.folder} was trained by {model.trainer}, a baseline for comparisons, which export does not support"
        )


class BundleDraft:
    """Fills a folder with a bundle.

    Args:
        folder: empty.
        model: what is exported.
        description: of it, see :func:`nnsam.nnunet.description.describe`.
        patches: to compare precisions on.
        workbench: runs and times the networks.
        int8: makes int8 networks, too; None: without.
        onnx: write ONNX files, too.
        tell: gets a sentence when a step begins.
    """

    def __init__(
        self,
        folder: Path,
        model: TrainedModel,
        description: dict[str, Any],
        patches: CalibrationSet,
        workbench: Workbench,
        int8: Int8Networks | None,
        onnx: bool,
        tell: Tell,
    ):
        self.folder = folder
        self.model = model
        self.patches = patches
        self.workbench = workbench
        self.int8 = int8
        self.tell = tell
        self._writer = NetworkWriter(model, folder, onnx)
        self._description = description
        self._network: dict[str, Any] = {}
        self._measured: list[Measured] = []
        self._folds: list[dict[str, Any]] = []
        self._opened: dict[tuple[NetworkFiles, str], Run] = {}

    def add_fold(self, fold: str, network: nn.Module) -> None:
        """Writes the networks of a fold.

        Raises:
            InputError: they cannot be converted, or are not equal to PyTorch's.
        """
        self.tell(f"fold {fold}: converting")
        self._network = self._network or describe_network(network)
        files = self._writer.write(fold, network)
        fused = self._fused(fold, network, files)
        self.tell(f"fold {fold}: comparing with PyTorch")
        runs = {name: self._open(fused or files, name) for name in self.workbench.precisions}
        int8 = self.int8.write(files, network) if self.int8 else None
        if int8:
            runs["int8"] = self._open(int8, "int8")
        measured = self.workbench.measure(network, runs, self.patches.patches, self.model.has_regions)
        self._opened.clear()
        measured.differences["f32"].check(f"fold {fold}")
        self._measured.append(measured)
        self._folds.append(
            {
                "fold": fold,
                "unet": files.unet.name,
                "int8": int8.unet.name if int8 else None,
                "fused": fused.unet.name if fused else None,
                "onnx": self._writer.onnx_name(files.unet),
            }
        )

    def finish(self, wanted: str, note: str = "") -> None:
        """Chooses the default precision and writes manifest and README.

        Args:
            wanted: see :func:`nnsam.exporting.comparison.choose`.
            note: what else there is to say about the choice.
        """
        names = [*self.workbench.precisions, "int8"] if self.int8 else self.workbench.precisions
        candidates = {name: self._candidate(name) for name in names}
        choice = choose(wanted, candidates, note)
        encoder = self._writer.encoder
        if self.int8 and self.int8.encoder and encoder:
            encoder["int8"] = self.int8.encoder.name
        if self.int8 and choice.precision != "int8" and not candidates["int8"].accepted:
            self._drop_int8([encoder, *self._folds] if encoder else self._folds)
        manifest = complete(
            self._description,
            self._network,
            networks={"image_encoder": encoder, "folds": self._folds},
            precision=choice.as_dict(candidates),
            parity=self._parity(),
        )
        (self.folder / README).write_text(readme_text(manifest), encoding="utf-8")
        write_manifest(self.folder, manifest)

    def _open(self, files: NetworkFiles, precision: str) -> Run:
        """Opens a fold's networks once: compiling an image encoder takes seconds."""
        if (files, precision) not in self._opened:
            self._opened[files, precision] = self.workbench.open(files, precision)
        return self._opened[files, precision]

    def _drop_int8(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            if entry["int8"]:
                _remove(self.folder / entry["int8"])
            entry["int8"] = None

    def _fused(self, fold: str, network: nn.Module, files: NetworkFiles) -> NetworkFiles | None:
        """Writes the fused network where it is faster; box models and ensembles reuse embeddings, which it cannot."""
        if files.encoder is None or self.model.box or len(self.model.folds) > 1:
            return None
        fused = self._writer.write_fused(fold, network)
        patch = self.patches.patches[0]
        picture = pictures_of(network, [patch])[0]
        two, one = (self._open(which, self.workbench.precisions[-1]) for which in (files, fused))
        seconds = self.workbench.best_seconds({"two": lambda: two(patch, picture), "one": lambda: one(patch, picture)})
        if not fused_is_faster(seconds["two"], seconds["one"]):
            _remove(fused.unet)
            return None
        difference = LogitDifference()
        difference.add(pytorch_logits(network, patch), self._open(files, "f32")(patch, picture))
        difference.check(f"fold {fold}, as two networks")
        return fused

    def _candidate(self, name: str) -> MeasuredPrecision:
        differences = [fold.differences[name] for fold in self._measured]
        return MeasuredPrecision(
            dice=1.0 if name == "f32" else worst([fold.agreements[name].dice for fold in self._measured]),
            seconds=_mean([fold.seconds[name] for fold in self._measured]),
            max_difference=max(difference.max for difference in differences),
            mean_difference=_mean([difference.mean for difference in differences]),
        )

    def _parity(self) -> dict[str, Any]:
        f32 = self._candidate("f32")
        return {
            "max_difference": f32.max_difference,
            "mean_difference": f32.mean_difference,
            "relative_difference": max(fold.differences["f32"].relative for fold in self._measured),
            "tolerance": min(fold.differences["f32"].tolerance for fold in self._measured),
            "images": len(self.patches.patches),
            "source": self.patches.origin,
            "from_images": self.patches.from_images,
            "pytorch_seconds": _mean([fold.seconds["pytorch"] for fold in self._measured]),
        }


def _remove(path: Path) -> None:
    for file in (path, path.with_suffix(".bin")):
        file.unlink()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
