"""What a trained model does with images, in words that need neither nnU-Net nor a network.

These are the sections of a bundle's `bundle.json` that follow from the model folder alone, see
:mod:`nnsam.exporting.manifest`, where they are listed. Inference reads nothing else, so that a model folder computed by
PyTorch and a bundle of it go the same way.
"""

from collections.abc import Mapping
from typing import Any

from nnsam.errors import InputError, NnsamError
from nnsam.io.nnunet_readers import READERS
from nnsam.nnunet.model_folder import TrainedModel
from nnsam.support.text import clipped

# Those of :mod:`nnsam.inference.automatic.preprocessing`.
NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
RESAMPLING = "resample_data_or_seg_to_shape"
# Defaults of nnU-Net's function (2.8.1), which hold where the plans leave an argument out.
RESAMPLING_DEFAULTS: Mapping[str, Any] = {
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": 3,
}
# nnU-Net's sliding window (nnUNetv2_predict's defaults).
TILE_STEP = 0.5
GAUSSIAN_SIGMA = 0.125


def describe(model: TrainedModel) -> dict[str, Any]:
    """Returns the sections `kind`, `model`, `input`, `preprocessing`, `tiling`, `labels`, `box` and `dataset_json`.

    Args:
        model: the model folder.

    Returns:
        What JSON can hold; `model` without `parameters` and `sam_weights`, which are the networks'.

    Raises:
        InputError: a cascade, another preprocessor, label manager, reader, normalisation or resampling than nnU-Net's
            usual ones, or damaged plans.
    """
    try:
        _check_supported(model)
        return _sections(model)
    except NnsamError:
        raise
    except Exception as error:  # nnU-Net and this module take fields out of plans in which anything may be damaged
        raise InputError(
            f"plans.json or dataset.json of {model.folder} are incomplete or damaged ({clipped(repr(error))}); "
            "expected what nnU-Net wrote at training"
        ) from None


def _sections(model: TrainedModel) -> dict[str, Any]:
    return {
        "kind": "box" if model.is_box else "automatic",
        "model": {
            "trainer": model.trainer,
            "plans": model.plans.get("plans_name"),
            "configuration": model.configuration,
            "dataset": model.plans.get("dataset_name"),
            "folds": list(model.folds),
            "checkpoint": model.checkpoint,
        },
        "input": {
            "channel_names": model.dataset_json.get("channel_names") or model.dataset_json["modality"],
            "channels": model.image_channels,
            "file_ending": model.dataset_json["file_ending"],
            "reader": model.plans["image_reader_writer"],
            "dimensions": len(model.patch_size),
        },
        "preprocessing": _preprocessing(model),
        "tiling": {
            "patch_size": list(model.patch_size),
            "step": TILE_STEP,
            "gaussian_sigma": GAUSSIAN_SIGMA,
            "mirror_axes": list(model.mirror_axes) if model.mirror_axes else None,
        },
        "labels": _labels(model),
        "box": None if model.box is None else model.box.as_section(),
        "dataset_json": model.dataset_json,
    }


def _preprocessing(model: TrainedModel) -> dict[str, Any]:
    settings = model.settings
    statistics = model.manager.foreground_intensity_properties_per_channel
    return {
        "transpose_forward": list(model.plans["transpose_forward"]),
        "transpose_backward": list(model.plans["transpose_backward"]),
        "spacing": [float(value) for value in settings.spacing],
        "normalization": [
            {"scheme": scheme, "use_mask": bool(use_mask), "statistics": dict(statistics[str(channel)])}
            for channel, (scheme, use_mask) in enumerate(
                zip(settings.normalization_schemes, settings.use_mask_for_norm, strict=True)
            )
        ],
        "resampling": {what: resampling_arguments(settings.configuration, what) for what in ("data", "probabilities")},
    }


def _labels(model: TrainedModel) -> dict[str, Any]:
    if model.is_box:
        return {
            "names": {"background": 0, "object": 1},
            "regions_class_order": None,
            "has_regions": False,
            "outputs": model.outputs,
            "foreground": [1],
        }
    manager = model.manager.get_label_manager(model.dataset_json)
    return {
        "names": model.dataset_json["labels"],
        "regions_class_order": manager.regions_class_order if manager.has_regions else None,
        "has_regions": manager.has_regions,
        "outputs": manager.num_segmentation_heads,
        "foreground": [int(label) for label in manager.foreground_labels],
    }


def resampling_arguments(settings: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns function and arguments of a resampling, nnU-Net's defaults filled in.

    Args:
        settings: the configuration in the plans.
        what: "data" or "probabilities".

    Raises:
        InputError: a function or an argument that the runtime does not have.
    """
    function, arguments = settings[f"resampling_fn_{what}"], dict(settings[f"resampling_fn_{what}_kwargs"])
    if function != RESAMPLING:
        raise InputError(f"the plans resample {what} by {function}; nnsam supports nnU-Net's default, {RESAMPLING}")
    unknown = set(arguments) - set(RESAMPLING_DEFAULTS) - {"is_seg"}
    if unknown or arguments.pop("is_seg", False):
        raise InputError(
            f"the plans resample {what} with {', '.join(sorted(unknown)) or 'is_seg'}, which nnsam does not support"
        )
    return {"function": function, **RESAMPLING_DEFAULTS, **arguments}


def _check_supported(model: TrainedModel) -> None:
    folder, settings = model.folder, model.settings
    _check_settings(model, settings)
    model.manager.get_label_manager(model.dataset_json)
    channels = model.image_channels
    masked = list(settings.use_mask_for_norm)
    if not len(settings.normalization_schemes) == len(masked) == channels:
        raise InputError(
            f"{folder}: plans.json normalises {len(settings.normalization_schemes)} channels and dataset.json has "
            f"{channels}; give a model folder whose files belong together"
        )


def _check_settings(model: TrainedModel, settings: Any) -> None:
    def refuse(what: str, found: Any, expected: Any) -> None:
        raise InputError(
            f"{model.folder} uses the {what} {found}, which nnsam can neither export nor predict; it supports "
            f"{expected}"
        )

    if settings.previous_stage_name is not None:
        refuse("cascade", f"on top of {settings.previous_stage_name}", "single-stage models: 2d, 3d_fullres, 3d_lowres")
    if settings.preprocessor_name != "DefaultPreprocessor":
        refuse("preprocessor", settings.preprocessor_name, "DefaultPreprocessor")
    if model.plans.get("label_manager", "LabelManager") != "LabelManager":
        refuse("label manager", model.plans["label_manager"], "LabelManager")
    if model.plans["image_reader_writer"] not in READERS:
        refuse("image reader", model.plans["image_reader_writer"], ", ".join(READERS))
    for scheme in settings.normalization_schemes:
        if scheme not in NORMALIZATIONS:
            refuse("normalisation", scheme, ", ".join(NORMALIZATIONS))
    for what in ("data", "probabilities"):
        resampling_arguments(settings.configuration, what)
