"""Which fields `bundle.json` has, and what each may hold: a bundle may come from anybody.

The digest shows that nothing was damaged, not who wrote it. So every field is checked for type and range before it is
used, files are named by plain names, and what the sections say has to fit together. What the fields mean is told in
:mod:`nnsam.exporting.manifest`; sections and fields that are not listed here are not read.
"""

import math
import re
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from nnsam.inference.automatic.preprocessing import SCHEMES
from nnsam.inference.automatic.resampling import FUNCTIONS
from nnsam.inference.tiles import LEAST_STEP
from nnsam.io.nnunet_readers import READERS
from nnsam.prompts.encoding import ENCODINGS
from nnsam.support.openvino import PRECISIONS

KINDS = ("automatic", "box")
# Of either: no model has more, and a larger number would only ask for memory.
MOST_CHANNELS = 1024
MOST_FILES = 1000
_MOST_OUTPUTS = 4096
_MOST_PATCH_VOXELS = 2**27
_MOST_LABEL = 65535
_LONGEST_TEXT = 4000
# One name in one folder, on Windows, too: no separators, drives, parents or hidden files.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]{0,199}")
# It becomes part of the names of outputs.
_FILE_ENDING = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FieldError(ValueError):
    """A field is absent or holds what it may not; the message names the field, and what was found and expected."""


Check = Callable[[Any, str], None]


def check_fields(manifest: Mapping[str, Any]) -> None:
    """Checks all that is read of a bundle's description.

    Args:
        manifest: content of `bundle.json`.

    Raises:
        FieldError: a field is absent, or of another type or range than `nnsam export` writes, or contradicts another.
    """
    _SECTIONS(manifest, "")
    _check_agreement(manifest)


def _wrong(where: str, found: Any, expected: str) -> FieldError:
    # reprlib keeps the message short, whatever was found.
    return FieldError(f"the field {where} is {reprlib.repr(found)}; expected {expected}")


def _whole(low: int, high: int) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(where, value, f"a whole number from {low} to {high}")

    return check


def _number(low: float, high: float, what: str = "") -> Check:
    """A finite number above `low`, `high` included."""

    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not low < value <= high:
            raise _wrong(where, value, what or f"a number above {low:g}, at most {high:g}")

    return check


def _step(value: Any, where: str) -> None:
    """Distance of tiles as a share of their size."""
    if type(value) not in (int, float) or not LEAST_STEP <= value <= 1:
        raise _wrong(where, value, f"a number from {LEAST_STEP} to 1")


def _any_number(value: Any, where: str) -> None:
    """Statistics of images without any foreground are nan."""
    if type(value) not in (int, float):
        raise _wrong(where, value, "a number")


def _flag(value: Any, where: str) -> None:
    if type(value) is not bool:
        raise _wrong(where, value, "true or false")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise _wrong(where, value, f"a line of at most {_LONGEST_TEXT} printable characters")


def _anything(value: Any, where: str) -> None:
    pass


def _matching(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _wrong(where, value, what)

    return check


def _one_of(values: Collection[str]) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise _wrong(where, value, f"one of {', '.join(values)}")

    return check


def _or_null(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def _either(first: type, check_first: Check, second: Check) -> Check:
    def check(value: Any, where: str) -> None:
        (check_first if type(value) is first else second)(value, where)

    return check


def _list(inner: Check, shortest: int, longest: int) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            count = str(shortest) if shortest == longest else f"{shortest} to {longest}"
            raise _wrong(where, value, f"a list of {count} entries")
        for index, entry in enumerate(value):
            inner(entry, f"{where}[{index}]")

    return check


def _table(inner: Check, key: Check = _text, shortest: int = 0, longest: int = _MOST_OUTPUTS) -> Check:
    """An object whose keys are data, too."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping) or not shortest <= len(value) <= longest:
            raise _wrong(where, value, f"an object with {shortest} to {longest} entries")
        for name, entry in value.items():
            key(name, f"{where} (a key)")
            inner(entry, f"{where}.{name}")

    return check


def _object(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "an object")
        prefix = f"{where}." if where else ""
        for name, inner in fields.items():
            if name not in value:
                raise FieldError(f"the field {prefix}{name} is absent; expected all fields that `nnsam export` writes")
            inner(value[name], prefix + name)
        for name, inner in (optional or {}).items():
            if name in value:
                inner(value[name], prefix + name)

    return check


def _three_axes(value: Any, where: str) -> None:
    if not isinstance(value, list) or not all(type(axis) is int for axis in value) or sorted(value) != [0, 1, 2]:
        raise _wrong(where, value, "the axes 0, 1 and 2 in some order")


_PRECISIONS = (*PRECISIONS, "float32", "bfloat16")  # the last two: bundles of earlier versions
_LABEL = _whole(0, _MOST_LABEL)
_SPACING = _number(0, 1e6, "a size in mm above 0")
_FILE = _matching(_FILE_NAME, "the plain name of a file in the bundle's folder")
_OPTIONAL_FILE = _or_null(_FILE)
_LABEL_OR_REGION = _either(int, _LABEL, _list(_LABEL, 0, _MOST_OUTPUTS))
_RESAMPLING = _object(
    {"function": _one_of(FUNCTIONS)},
    {
        "order": _whole(0, 5),
        "order_z": _whole(0, 5),
        "force_separate_z": _or_null(_flag),
        "separate_z_anisotropy_threshold": _number(0, 1e9),
        "mode": _text,
        "aniso_axis_mode": _text,
    },
)
_SECTIONS = _object(
    {
        "kind": _one_of(KINDS),
        "model": _object(
            {
                "trainer": _text,
                "configuration": _text,
                "folds": _list(_text, 1, MOST_FILES),
            },
            {
                "plans": _or_null(_text),
                "dataset": _or_null(_text),
                "checkpoint": _text,
                "parameters": _whole(0, 10**15),
                "sam_weights": _or_null(_object({"kind": _text, "sha256": _or_null(_text)})),
            },
        ),
        "input": _object(
            {
                "channel_names": _table(_text, shortest=1, longest=MOST_CHANNELS),
                "channels": _whole(1, MOST_CHANNELS),
                "file_ending": _matching(_FILE_ENDING, "the ending of a file name, such as .nii.gz"),
                "reader": _one_of(READERS),
                "dimensions": _whole(2, 3),
            }
        ),
        "preprocessing": _object(
            {
                "transpose_forward": _three_axes,
                "transpose_backward": _three_axes,
                "spacing": _list(_SPACING, 2, 3),
                "normalization": _list(
                    _object(
                        {"scheme": _one_of(SCHEMES), "use_mask": _flag},
                        {"statistics": _or_null(_table(_any_number, longest=100))},
                    ),
                    1,
                    MOST_CHANNELS,
                ),
                "resampling": _object({"data": _RESAMPLING, "probabilities": _RESAMPLING}),
            }
        ),
        "tiling": _object(
            {
                "patch_size": _list(_whole(1, _MOST_PATCH_VOXELS), 2, 3),
                "mirror_axes": _or_null(_list(_whole(0, 2), 0, 3)),
            },
            {"step": _step, "gaussian_sigma": _number(0, 100)},
        ),
        "labels": _object(
            {
                "names": _table(_LABEL_OR_REGION),
                "regions_class_order": _or_null(_list(_LABEL, 1, _MOST_OUTPUTS)),
                "has_regions": _flag,
                "outputs": _whole(1, _MOST_OUTPUTS),
                "foreground": _list(_LABEL, 0, _MOST_LABEL),
            }
        ),
        "box": _or_null(
            _object(
                {
                    "prompt": _one_of(ENCODINGS),
                    "spacing": _or_null(_list(_SPACING, 2, 2)),
                    "per_slice_normalization": _flag,
                },
                {"transpose": _three_axes},
            )
        ),
        "networks": _object(
            {
                "image_encoder": _or_null(
                    _object(
                        {
                            "file": _FILE,
                            "size": _whole(16, 4096),
                            "input": _one_of(("robust", "legacy")),
                        },
                        {"int8": _OPTIONAL_FILE, "onnx": _OPTIONAL_FILE, "channels": _whole(1, MOST_CHANNELS)},
                    )
                ),
                "folds": _list(
                    _object(
                        {"fold": _either(int, _whole(0, 10**9), _text), "unet": _FILE},
                        {"int8": _OPTIONAL_FILE, "fused": _OPTIONAL_FILE, "onnx": _OPTIONAL_FILE},
                    ),
                    1,
                    MOST_FILES,
                ),
            }
        ),
        "precision": _object({"auto": _one_of(_PRECISIONS)}, {"reason": _text, "candidates": _table(_anything)}),
        "dataset_json": _table(_anything),
        "files": _table(_matching(_SHA256, "a SHA-256"), _FILE, 1, MOST_FILES),
    },
    {
        "created": _text,
        "versions": _table(_text, longest=100),
        "parity": _or_null(_table(_anything)),
        "sizes": _table(_whole(0, 2**63), _FILE, 0, MOST_FILES),
    },
)


def _check_agreement(manifest: Mapping[str, Any]) -> None:
    """What one section says has to fit what the others say."""
    images, settings, tiling = manifest["input"], manifest["preprocessing"], manifest["tiling"]
    dimensions, patch_size = images["dimensions"], tiling["patch_size"]
    _equal("tiling.patch_size", len(patch_size), dimensions, "sides, one per dimension")
    _equal("preprocessing.spacing", len(settings["spacing"]), dimensions, "sizes, one per dimension")
    _equal("preprocessing.normalization", len(settings["normalization"]), images["channels"], "entries, one a channel")
    if math.prod(patch_size) > _MOST_PATCH_VOXELS:
        raise _wrong("tiling.patch_size", patch_size, f"at most {_MOST_PATCH_VOXELS} voxels")
    axes = tiling["mirror_axes"] or []
    if len(set(axes)) != len(axes) or any(axis >= dimensions for axis in axes):
        raise _wrong("tiling.mirror_axes", axes, f"different axes of the {dimensions} of the patch")
    forward, backward = settings["transpose_forward"], settings["transpose_backward"]
    if [forward[axis] for axis in backward] != [0, 1, 2]:
        raise _wrong("preprocessing.transpose_backward", backward, f"what undoes the order {forward}")
    for index, channel in enumerate(settings["normalization"]):
        if channel["scheme"] == "CTNormalization":
            where = f"preprocessing.normalization[{index}].statistics"
            names = ("percentile_00_5", "percentile_99_5", "mean", "std")
            _object({name: _number(-1e30, 1e30, "a finite number") for name in names})(channel.get("statistics"), where)
    _check_labels(manifest["labels"])
    if (manifest["kind"] == "box") != (manifest["box"] is not None):
        raise _wrong("box", manifest["box"], "a description in box models, and null in others")
    if manifest["kind"] == "box":
        _equal("tiling.patch_size", dimensions, 2, "sides, since boxes are segmented slice by slice")
        _equal("labels.outputs", manifest["labels"]["outputs"], 2, "for a box model, background and object")
    _check_networks(manifest)


def _check_labels(labels: Mapping[str, Any]) -> None:
    if labels["has_regions"]:
        if labels["regions_class_order"] is None:
            raise _wrong("labels.regions_class_order", None, "the label of each region")
        _equal("labels.regions_class_order", len(labels["regions_class_order"]), labels["outputs"], "one per output")
    else:
        _equal("labels.outputs", labels["outputs"], len(labels["foreground"]) + 1, "background and each label")


def _check_networks(manifest: Mapping[str, Any]) -> None:
    """Networks are files of the bundle, and so are their weights."""
    networks, files = manifest["networks"], manifest["files"]
    parts: list[tuple[str, Mapping[str, Any], tuple[str, ...]]] = [
        (f"networks.folds[{index}]", entry, ("unet", "int8", "fused", "onnx"))
        for index, entry in enumerate(networks["folds"])
    ]
    if networks["image_encoder"] is not None:
        parts.append(("networks.image_encoder", networks["image_encoder"], ("file", "int8", "onnx")))
    for where, entry, keys in parts:
        for key in keys:
            name, ending = entry.get(key), ".onnx" if key == "onnx" else ".xml"
            if name is not None and (name not in files or not name.endswith(ending)):
                raise _wrong(f"{where}.{key}", name, f"the name of a network {ending} that the field files lists")
    names = [str(entry["fold"]) for entry in networks["folds"]]
    if len(set(names)) != len(names):
        raise _wrong("networks.folds", names, "each fold once")


def _equal(where: str, found: int, expected: int, what: str) -> None:
    if found != expected:
        raise _wrong(where, found, f"{expected}: {what}")
