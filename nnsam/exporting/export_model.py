"""Makes a bundle out of a trained model folder: complete and equal to the trained model, or nothing."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnsam.errors import InputError, SetupError
from nnsam.exporting.calibration import CalibrationModel, CalibrationSet, calibration_patches
from nnsam.exporting.comparison import Workbench
from nnsam.exporting.draft import BundleDraft
from nnsam.exporting.int8 import Int8Networks, Tell, int8_is_wanted
from nnsam.exporting.network_files import check_onnx
from nnsam.inference.bundle import Bundle, is_bundle
from nnsam.nnunet.description import describe
from nnsam.nnunet.model_folder import TrainedModel, load_trained_model
from nnsam.support.files import atomic_folder


@contextmanager
def replaced_folder(destination: str | Path, overwrite: bool) -> Iterator[Path]:
    """Gives an empty temporary folder that takes the name `destination` when the block ends without error.

    Args:
        destination: the bundle to make.
        overwrite: replace an older bundle there.

    Yields:
        The folder to write into.

    Raises:
        InputError: `destination` exists and is not to be replaced, or is something else than a bundle.
    """
    destination = Path(destination).absolute()
    filled = destination.exists() and not (destination.is_dir() and not any(destination.iterdir()))
    if not filled:
        with atomic_folder(destination) as folder:
            yield folder
        return
    if not is_bundle(destination):
        raise InputError(
            f"{destination} already exists and is no bundle; choose another output, nothing is overwritten"
        )
    if not overwrite:
        raise InputError(f"{destination} already exists; choose another output, or replace it with --overwrite")
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as holder:
        with atomic_folder(Path(holder, "new")) as folder:
            yield folder
        old = Path(holder, "old")
        os.replace(destination, old)
        try:
            os.replace(Path(holder, "new"), destination)
        except BaseException:
            os.replace(old, destination)
            raise
        shutil.rmtree(old, ignore_errors=True)


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
        overwrite: replace an older bundle.
        tell: gets a sentence when a step begins.
        workbench: runs and times the networks; None: on this CPU, in every precision that it computes in hardware.

    Raises:
        InputError: the model, the images or `output` do not fit, the disk is full, or the exported network is not
            within the tolerance of PyTorch, see :mod:`nnsam.exporting.comparison`.
        SetupError: a package is missing, or the CPU lacks the precision.
    """
    workbench = workbench or Workbench()
    if precision == "bf16" and "bf16" not in workbench.precisions:
        raise SetupError("this CPU has no bfloat16 arithmetic, so it cannot be measured; use --precision auto or f32")
    if calibration is not None and calibration < MIN_PATCHES:
        raise InputError(f"{calibration} calibration patches are too few; give at least {MIN_PATCHES}")
    if onnx:
        check_onnx()
    try:
        with replaced_folder(output, overwrite) as draft_folder:
            model = load_trained_model(folder, folds, checkpoint)
            _refuse_baselines(model)
            description = describe(model)
            patches = _patches(model, images, calibration)
            for sentence in (model.note, f"precisions are compared on {patches.origin}"):
                if sentence:
                    tell(sentence)
            with_int8, note = int8_is_wanted(precision, patches, images is not None)
            int8 = Int8Networks(patches, model.has_regions, tell) if with_int8 else None
            draft = BundleDraft(draft_folder, model, description, patches, workbench, int8, onnx, tell)
            for fold, network in model.networks():
                draft.add_fold(fold, network)
            draft.finish(precision, note)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise InputError(f"{output} cannot be written: the disk is full; free space or name another disk") from None
        raise InputError(f"{output} cannot be written ({error}); is the disk full?") from error
    return Bundle.open(output)


def _refuse_baselines(model: TrainedModel) -> None:
    if model.trainer.split("_")[0] == _NOT_EXPORTED:
        raise InputError(
            f"{model.folder} was trained by {model.trainer}, a baseline for comparisons, which export does not support"
        )


def _patches(model: TrainedModel, images: str | Path | None, count: int | None) -> CalibrationSet:
    described = CalibrationModel(model.plans, model.dataset_json, model.configuration)
    return calibration_patches(described, images, count or PATCHES[len(model.patch_size)])
