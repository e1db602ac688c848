"""What a bundle can express: models whose pre- and post-processing nnsam's runtime computes as nnU-Net does."""

import contextlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnsam.errors import InputError

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
READERS = (
    "NaturalImage2DIO",
    "SimpleITKIO",
    "SimpleITKIOWithReorient",
    "NibabelIO",
    "NibabelIOWithReorient",
    "Tiff3DIO",
)


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a model folder.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}; expected the model folder of a trained model") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy the model folder again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object; expected what nnU-Net wrote")
    return content


def check_supported(
    folder: Path, plans: dict[str, Any], dataset_json: dict[str, Any], configuration: str
) -> tuple[Any, Any]:
    """Returns nnU-Net's managers of the plans and of the configuration, where a bundle can express them.

    Raises:
        InputError: a cascade, another preprocessor, label manager, reader, normalisation or resampling than nnU-Net's
            usual ones, or damaged plans.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of plans of older nnU-Net versions, which are translated
            manager = PlansManager(plans)
            settings = manager.get_configuration(configuration)
            _check_settings(folder, plans, settings)
            manager.get_label_manager(dataset_json)
            channels = len(dataset_json.get("channel_names") or dataset_json["modality"])
            masked = list(settings.use_mask_for_norm)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"plans.json or dataset.json of {folder} are incomplete or damaged ({error or repr(error)}); expected what "
            f"nnU-Net wrote at training"
        ) from None
    if not len(settings.normalization_schemes) == len(masked) == channels:
        raise InputError(
            f"{folder}: plans.json normalises {len(settings.normalization_schemes)} channels and dataset.json has "
            f"{channels}; give a model folder whose files belong together"
        )
    return manager, settings


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
        raise InputError(f"the plans resample {what} by {function}; export supports nnU-Net's default, {RESAMPLING}")
    unknown = set(arguments) - set(RESAMPLING_DEFAULTS) - {"is_seg"}
    if unknown or arguments.pop("is_seg", False):
        raise InputError(
            f"the plans resample {what} with {', '.join(sorted(unknown)) or 'is_seg'}, which export does not support"
        )
    return {"function": function, **RESAMPLING_DEFAULTS, **arguments}


def _check_settings(folder: Path, plans: Mapping[str, Any], settings: Any) -> None:
    def refuse(what: str, found: Any, expected: Any) -> None:
        raise InputError(f"{folder} uses the {what} {found}, which export does not support; it supports {expected}")

    if settings.previous_stage_name is not None:
        refuse("cascade", f"on top of {settings.previous_stage_name}", "single-stage models: 2d, 3d_fullres, 3d_lowres")
    if settings.preprocessor_name != "DefaultPreprocessor":
        refuse("preprocessor", settings.preprocessor_name, "DefaultPreprocessor")
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        refuse("label manager", plans["label_manager"], "LabelManager")
    if plans["image_reader_writer"] not in READERS:
        refuse("image reader", plans["image_reader_writer"], ", ".join(READERS))
    for scheme in settings.normalization_schemes:
        if scheme not in NORMALIZATIONS:
            refuse("normalisation", scheme, ", ".join(NORMALIZATIONS))
    for what in ("data", "probabilities"):
        resampling_arguments(settings.configuration, what)
