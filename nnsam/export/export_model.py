"""Makes a bundle out of a trained model folder: networks, manifest, measured precision; complete or not at all."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.export.calibration import CalibrationSet, calibration_patches
from nnsam.export.calibration_case import CalibrationModel
from nnsam.export.manifest import describe
from nnsam.export.measurement import (
    Measured,
    NetworkFiles,
    best_seconds,
    cpu_precisions,
    measure,
    openvino_run,
    pictures_of,
)
from nnsam.export.network_files import NetworkWriter
from nnsam.export.parity import TOLERANCE, LogitDifference, worst
from nnsam.export.precision_choice import Candidate, choose, fused_is_faster
from nnsam.export.readme import README, readme_text
from nnsam.export.replacing import replaced_folder
from nnsam.export.trained_model import TrainedModel, load_trained_model
from nnsam.runtime.bundle import Bundle, write_manifest

# Patches to compare precisions on, by the dimensions of a patch.
PATCHES = {2: 32, 3: 8}
MIN_PATCHES = 4
Tell = Callable[[str], None]


@dataclass
class _Export:
    """What is known while a bundle is being made.

    Attributes:
        precisions: those to measure.
        measured: per fold.
        folds: entries of the manifest's `networks`.
    """

    model: TrainedModel
    writer: NetworkWriter
    patches: CalibrationSet
    precisions: tuple[str, ...]
    tell: Tell
    manifest: dict[str, Any] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    folds: list[dict[str, Any]] = field(default_factory=list)


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
) -> Bundle:
    """Exports a trained model; nothing is left behind unless it is complete and equal to the trained one.

    Args:
        folder: nnU-Net's model folder, of a trainer of this package or of nnU-Net.
        output: the bundle to make.
        folds: folds to take; None: see :func:`nnsam.export.trained_model.load_trained_model`.
        checkpoint: file in each fold.
        precision: what the bundle uses by default: "f32", "bf16", "int8", or "auto", the fastest of those whose masks
            agree with float32's.
        images: images to compare precisions on, see :func:`nnsam.export.calibration.calibration_patches`.
        calibration: number of patches of these images; None: 32 in 2D, 8 in 3D.
        onnx: write ONNX files, too.
        overwrite: replace an older bundle.
        tell: gets a sentence when a step begins.

    Raises:
        InputError: the model, the images or `output` do not fit, the disk is full, or the exported network is not
            within :data:`nnsam.export.parity.TOLERANCE` of PyTorch.
        SetupError: a package is missing, or the CPU lacks the precision.
    """
    precisions = cpu_precisions()
    if precision == "bf16" and "bf16" not in precisions:
        raise SetupError("this CPU has no bfloat16 arithmetic, so it cannot be measured; use --precision auto or f32")
    if calibration is not None and calibration < MIN_PATCHES:
        raise InputError(f"{calibration} calibration patches are too few; give at least {MIN_PATCHES}")
    try:
        with replaced_folder(output, overwrite) as draft:
            model = load_trained_model(folder, folds, checkpoint)
            if model.note:
                tell(model.note)
            patches = _patches(model, images, calibration)
            tell(f"compared on {patches.origin}")
            export = _Export(model, NetworkWriter(model, draft), patches, precisions, tell)
            for fold, network in model.networks():
                _export_fold(export, fold, network)
            _finish(export, draft, precision)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{output} cannot be written: the disk is full; free space or name another disk") from None
        raise InputError(f"{output} cannot be written ({error}); is the disk full?") from error
    return Bundle.open(output)


def _patches(model: TrainedModel, images: str | Path | None, count: int | None) -> CalibrationSet:
    described = CalibrationModel(model.plans, model.dataset_json, model.configuration)
    return calibration_patches(described, images, count or PATCHES[len(model.patch_size)])


def _export_fold(export: _Export, fold: str, network: nn.Module) -> None:
    export.tell(f"fold {fold}: converting")
    files = export.writer.write(fold, network)
    if not export.manifest:
        export.manifest = describe(export.model, network)
    export.tell(f"fold {fold}: comparing with PyTorch")
    runs = {name: openvino_run(files, name) for name in export.precisions}
    measured = measure(network, runs, export.patches.patches, export.model.has_regions)
    measured.difference.check(f"fold {fold}")
    export.measured.append(measured)
    fused = _fused(export, fold, network, files)
    export.folds.append(
        {"fold": fold, "unet": files.unet.name, "int8": None, "fused": fused.unet.name if fused else None}
    )


def _fused(export: _Export, fold: str, network: nn.Module, files: NetworkFiles) -> NetworkFiles | None:
    """Writes the fused network where it is faster; box models and ensembles reuse embeddings, which it cannot."""
    if files.encoder is None or export.model.box or len(export.model.folds) > 1:
        return None
    precision = export.precisions[-1]
    fused = export.writer.write_fused(fold, network)
    patch = export.patches.patches[0]
    picture = pictures_of(network, [patch])[0]
    runs = {"two": openvino_run(files, precision), "one": openvino_run(fused, precision)}
    seconds = best_seconds({name: lambda run=run: run(patch, picture) for name, run in runs.items()})
    if fused_is_faster(seconds["two"], seconds["one"]):
        difference = LogitDifference()
        two, one = (openvino_run(which, "f32")(patch, picture) for which in (files, fused))
        difference.add(two, one)
        difference.check("the fused network")
        return fused
    del runs
    for path in (fused.unet, fused.unet.with_suffix(".bin")):
        path.unlink()
    return None


def _finish(export: _Export, draft: Path, precision: str) -> None:
    candidates = _candidates(export)
    choice = choose(precision, candidates)
    manifest = {
        **export.manifest,
        "networks": {"image_encoder": export.writer.encoder, "folds": export.folds},
        "precision": choice.as_dict(candidates),
        "parity": _parity(export),
    }
    (draft / README).write_text(readme_text(manifest), encoding="utf-8")
    write_manifest(draft, manifest)


def _candidates(export: _Export) -> dict[str, Candidate]:
    found = {}
    for name in export.precisions:
        dice = 1.0 if name == "f32" else worst([fold.agreements[name].dice for fold in export.measured])
        found[name] = Candidate(dice, _mean([fold.seconds[name] for fold in export.measured]))
    return found


def _parity(export: _Export) -> dict[str, Any]:
    differences = [fold.difference for fold in export.measured]
    return {
        "max_difference": max(difference.max for difference in differences),
        "mean_difference": _mean([difference.mean for difference in differences]),
        "relative_difference": max(difference.relative for difference in differences),
        "tolerance": TOLERANCE,
        "images": len(export.patches.patches),
        "source": export.patches.origin,
        "pytorch_seconds": _mean([fold.seconds["pytorch"] for fold in export.measured]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
