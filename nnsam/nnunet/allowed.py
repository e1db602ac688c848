"""What plans may name: nnU-Net imports by name what they say and calls it, so that names are checked before.

A `plans.json` that somebody sends, or the `init_args` of a checkpoint, could name any function of any package that can
be imported, such as one that runs a file of the same folder. Here only the classes that nnU-Net's own planners write
pass.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnsam.errors import InputError

_HOME = "dynamic_network_architectures.architectures."
# `residual_unet` is where plans of nnU-Net 2.0 to 2.3 look for it; nnU-Net finds it by its name then.
NETWORKS = frozenset(
    _HOME + name
    for name in (
        *("unet.PlainConvUNet", "unet.ResidualEncoderUNet", "unet.ResidualUNet", "residual_unet.ResidualEncoderUNet"),
        *("primus.PrimusS", "primus.PrimusB", "primus.PrimusM", "primus.PrimusL"),
        *("primus.PrimusV2S", "primus.PrimusV2B", "primus.PrimusV2M", "primus.PrimusV2L"),
    )
)
_OLD_NETWORKS = frozenset({"PlainConvUNet", "ResidualEncoderUNet"})
_KINDS = {
    "conv_op": r"Conv[123]d",
    "norm_op": r"(Instance|Batch|SyncBatch)Norm([123]d)?|GroupNorm|LayerNorm",
    "dropout_op": r"(Alpha|FeatureAlpha)?Dropout([123]d)?",
    "nonlin": r"(Leaky|P|R)?ReLU6?|ELU|SELU|CELU|GELU|SiLU|Mish|Hardswish|Softplus|Tanh|Sigmoid|Identity",
}
_MODULE = r"torch\.nn\.(modules\.(conv|instancenorm|batchnorm|normalization|dropout|activation|linear)\.)?"
_CLASSES = {
    "normalization_schemes": frozenset(
        {
            *("ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization"),
            "RGBTo01Normalization",
        }
    ),
    "resampling_fn": frozenset(
        {
            *("resample_data_or_seg_to_shape", "resample_torch_simple", "resample_torch_fornnunet"),
            "no_resampling_hack",
        }
    ),
    "preprocessor_name": frozenset({"DefaultPreprocessor"}),
    "label_manager": frozenset({"LabelManager"}),
}
# A class's name; nnU-Net looks for trainers in its own package and in folders that the user named.
# Far beyond what planners choose: a network of a billion layers would fill the memory before its weights are missed.
_MOST = {
    "n_stages": 20,
    "features_per_stage": 8192,
    "n_conv_per_stage": 64,
    "n_blocks_per_stage": 64,
    "n_conv_per_stage_decoder": 64,
    "kernel_sizes": 64,
    "strides": 64,
    # of configurations of nnU-Net before 2.4
    "UNet_base_num_features": 8192,
    "unet_max_num_features": 8192,
    "n_conv_per_stage_encoder": 64,
    "conv_kernel_sizes": 64,
    "pool_op_kernel_sizes": 64,
    "patch_size": 1 << 20,
}
_MOST_ENTRIES = 200
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_SHOWN = 80


def check_plans(plans: Mapping[str, Any], source: str | Path) -> None:
    """Refuses plans that name what nnU-Net's own planners do not; to be called before nnU-Net sees them.

    Args:
        plans: content of a plans.json.
        source: the file, for messages.

    Raises:
        InputError: another network, layer, normalisation, resampling or other class.
    """
    configurations = plans.get("configurations")
    if not isinstance(configurations, Mapping):
        raise InputError(f"{source} has no configurations; expected the plans that nnU-Net wrote at training.")
    _check_class(plans.get("label_manager"), "label_manager", source)
    for name, settings in configurations.items():
        if not isinstance(settings, Mapping):
            raise InputError(f"{source}: the configuration {_shown(name)} is no object; expected nnU-Net's plans.")
        for key in ("data", "seg", "probabilities"):
            _check_class(settings.get(f"resampling_fn_{key}"), "resampling_fn", source)
        _check_class(settings.get("preprocessor_name"), "preprocessor_name", source)
        schemes = settings.get("normalization_schemes") or []
        for scheme in schemes if isinstance(schemes, list) else [schemes]:
            _check_class(scheme, "normalization_schemes", source)
        if settings.get("UNet_class_name") not in (None, *_OLD_NETWORKS):
            raise _refusal(settings["UNet_class_name"], "a network", _OLD_NETWORKS, source)
        _check_sizes(settings, source)
        if "architecture" in settings:
            check_architecture(settings["architecture"], source)


def check_architecture(architecture: Any, source: str | Path) -> None:
    """Refuses an entry `architecture` of plans whose classes are not those of nnU-Net's planners.

    Raises:
        InputError: another class, or no such entry.
    """
    if not isinstance(architecture, Mapping):
        raise InputError(f"{source} holds an architecture that is no object; expected the plans that nnU-Net wrote.")
    name, arguments = architecture.get("network_class_name"), architecture.get("arch_kwargs")
    imported = architecture.get("_kw_requires_import")
    if not isinstance(name, str) or name not in NETWORKS:
        raise _refusal(name, "a network", NETWORKS, source)
    if not isinstance(arguments, Mapping) or not isinstance(imported, list):
        raise InputError(f"{source} describes its network incompletely; expected the plans that nnU-Net wrote.")
    _check_sizes(arguments, source)
    for key in imported:
        if not isinstance(key, str) or key not in _KINDS:
            raise _refusal(key, "an argument to be imported", _KINDS, source)
        value = arguments.get(key)
        if value is not None and not (isinstance(value, str) and re.fullmatch(_MODULE + f"({_KINDS[key]})", value)):
            raise InputError(
                f"{source} names {_shown(value)} as {key}, which nnsam does not import; expected a class of torch.nn "
                "such as nnU-Net's planners write, so use plans of nnU-Net's own."
            )


def _check_sizes(settings: Mapping[str, Any], source: str | Path) -> None:
    for key, most in _MOST.items():
        numbers = _flat(settings.get(key))
        if len(numbers) > _MOST_ENTRIES or any(
            type(number) is not int or not 0 <= number <= most for number in numbers
        ):
            raise InputError(
                f"{source} states {_shown(settings[key])} as {key}; expected whole numbers up to {most}, as nnU-Net's "
                "planners write, so copy the plans again."
            )


def _flat(value: Any, depth: int = 0) -> list[Any]:
    """Entries of a list of lists; nothing for what is absent, and no more than are too many."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or depth > 3:
        return [value]
    found: list[Any] = []
    for entry in value[: _MOST_ENTRIES + 1]:
        found += [entry] if entry is None else _flat(entry, depth + 1)
    return found


def check_trainer_name(name: Any, source: str | Path) -> str:
    """Returns a trainer's name that may be looked for; it comes from a checkpoint.

    Raises:
        InputError: no name of a class.
    """
    if not isinstance(name, str) or _IDENTIFIER.fullmatch(name) is None:
        raise InputError(f"{source} names {_shown(name)} as its trainer, which is no name of a class; copy it again.")
    return name


def _check_class(name: Any, kind: str, source: str | Path) -> None:
    if name is not None and (not isinstance(name, str) or name not in _CLASSES[kind]):
        raise _refusal(name, kind, _CLASSES[kind], source)


def _refusal(found: Any, kind: str, known: Iterable[str], source: str | Path) -> InputError:
    names = ", ".join(sorted({name.rpartition(".")[2] for name in known}))
    return InputError(
        f"{source} names {_shown(found)} as {kind}, which nnsam does not import; known are nnU-Net's own: {names}."
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
