"""Intensity normalisation of one channel, as nnU-Net's preprocessing does it.

The results are nnU-Net's to the last bit, because the same sums are taken over the same memory layout in the same
precision; a copy of another layout gives means that differ in the last digits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

_EPSILON = 1e-8
Image = NDArray[np.float32]
Mask = NDArray[np.bool_] | None


def normalize(image: Image, settings: Mapping[str, Any], mask: Mask = None) -> None:
    """Normalises a channel in place.

    Args:
        image: (z, y, x), finite; any memory layout.
        settings: "scheme" (nnU-Net's class name), "use_mask" and "statistics" of the training images.
        mask: what counts as image, of the same shape; needed where `use_mask` is set.

    Raises:
        InputError: a scheme that is not known here, or values that the scheme does not allow.
    """
    scheme = settings["scheme"]
    if scheme not in _SCHEMES:
        raise InputError(
            f"the model normalises with {scheme}, which nnsam does not know; expected one of {', '.join(_SCHEMES)}: "
            "predict with nnUNetv2_predict"
        )
    _SCHEMES[scheme](image, settings.get("statistics") or {}, mask if settings.get("use_mask") else None)


def uses_mask(settings: Mapping[str, Any]) -> bool:
    """Tells whether a channel's normalisation depends on the mask."""
    return settings["scheme"] == "ZScoreNormalization" and bool(settings.get("use_mask"))


def _z_score(image: Image, statistics: Mapping[str, Any], mask: Mask) -> None:
    if mask is None:
        mean, deviation = image.mean(), image.std()
        image -= mean
        image /= max(deviation, _EPSILON)
        return
    values = image[mask]
    if values.size:
        image[mask] = (values - values.mean()) / max(values.std(), _EPSILON)


def _ct(image: Image, statistics: Mapping[str, Any], mask: Mask) -> None:
    np.clip(image, statistics["percentile_00_5"], statistics["percentile_99_5"], out=image)
    image -= statistics["mean"]
    image /= max(statistics["std"], _EPSILON)


def _none(image: Image, statistics: Mapping[str, Any], mask: Mask) -> None:
    pass


def _rescale(image: Image, statistics: Mapping[str, Any], mask: Mask) -> None:
    image -= image.min()
    image /= max(image.max(), np.float32(_EPSILON))


def _rgb(image: Image, statistics: Mapping[str, Any], mask: Mask) -> None:
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 255:
        raise InputError(
            f"the image has values from {low:g} to {high:g}, and the model expects colours from 0 to 255; "
            "convert the image to 8 bits"
        )
    image /= 255.0


_SCHEMES: dict[str, Callable[[Image, Mapping[str, Any], Mask], None]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "NoNormalization": _none,
    "RescaleTo01Normalization": _rescale,
    "RGBTo01Normalization": _rgb,
}
SCHEMES = tuple(_SCHEMES)
