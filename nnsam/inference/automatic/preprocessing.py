"""From an image to what the network sees: nnU-Net's DefaultPreprocessor without nnU-Net.

Axes are transposed, zeros around the image are cut off, intensities are normalised, voxels brought to the model's
size, in this order. All values are those of nnU-Net to the last bit, given an array of the same memory layout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.inference.automatic.resampling import Resampling, resampled_shape

Box = tuple[tuple[int, int], ...]


def nonzero_box(image: NDArray) -> Box:
    """Returns the smallest box around what is not zero in any channel; the whole image where everything is zero.

    nnU-Net fills the holes of the mask first, which never makes the box larger.

    Args:
        image: (C, z, y, x).

    Returns:
        (start, stop) per spatial axis.
    """
    mask = nonzero(image)
    bounds = []
    for axis, size in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        bounds.append((int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else (0, size))
    return tuple(bounds)


def nonzero(image: NDArray) -> NDArray[np.bool_]:
    """Returns where any channel of an image (C, z, y, x) is not zero, (z, y, x)."""
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    return mask


def filled_mask(image: NDArray) -> NDArray[np.bool_]:
    """Returns where any channel is not zero, and the zeros that are enclosed by it, (z, y, x).

    Args:
        image: (C, z, y, x), cropped or not: holes do not depend on what lies outside of the box around the mask. In
            an image of a single slice nothing is enclosed, because it is open to the slices before and after.
    """
    mask = nonzero(image)
    if 1 in mask.shape or mask.all():
        return mask
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(mask)


def box_slices(box: Box) -> tuple[slice, ...]:
    """Returns what cuts a box out of an image (z, y, x)."""
    return tuple(slice(start, stop) for start, stop in box)


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


@dataclass(frozen=True)
class Prepared:
    """An image as the network sees it, and what is needed to undo the preparation.

    Attributes:
        data: (C, z, y, x), normalised, at the model's voxel size; axes in the model's order.
        spacing: the image's own voxel size in the model's order of axes.
        shape_before_cropping: (z, y, x) in the model's order of axes.
        box: what was not cut off, (start, stop) per axis.
    """

    data: NDArray[np.float32]
    spacing: tuple[float, ...]
    shape_before_cropping: tuple[int, ...]
    box: Box

    @property
    def shape_after_cropping(self) -> tuple[int, ...]:
        """Shape of the box, before resampling."""
        return tuple(stop - start for start, stop in self.box)


def preprocess(image: ArrayLike, spacing: Sequence[float], manifest: Mapping[str, Any], threads: int = 1) -> Prepared:
    """Prepares an image for the network.

    Args:
        image: (C, z, y, x), in the order of axes in which nnU-Net's reader gives it; a picture has one slice. Kept,
            not changed.
        spacing: voxel size along z, y and x; (999, 1, 1) for a picture.
        manifest: of the bundle.
        threads: for resampling.

    Raises:
        InputError: an image that does not fit the model, has no pixels or values that are not finite, or a voxel size
            that is not positive.
    """
    settings = manifest["preprocessing"]
    image = np.asarray(image)
    _check(image, spacing, len(settings["normalization"]))
    with np.errstate(over="ignore"):
        data = image.astype(np.float32)  # a copy in the image's memory layout, on which sums depend
    if not all(np.isfinite(channel).all() for channel in data):
        raise InputError("the image holds values that are not finite numbers (nan or infinite); replace them")
    order = settings["transpose_forward"]
    data = data.transpose([0, *(axis + 1 for axis in order)])
    original = tuple(float(spacing[axis]) for axis in order)
    shape = data.shape[1:]
    box = nonzero_box(data)
    z, y, x = box_slices(box)
    data = data[:, z, y, x]
    target = model_spacing(settings, original)
    new_shape = resampled_shape(data.shape[1:], original, target)
    mask = filled_mask(data) if any(uses_mask(channel) for channel in settings["normalization"]) else None
    for channel, how in zip(data, settings["normalization"], strict=True):
        normalize(channel, how, mask)
    resampling = Resampling.of(settings["resampling"]["data"])
    return Prepared(resampling(data, new_shape, original, target, threads), original, shape, box)


def model_spacing(settings: Mapping[str, Any], original: Sequence[float]) -> tuple[float, ...]:
    """Returns the voxel size that the network sees, 3 values.

    Args:
        settings: the manifest's section "preprocessing".
        original: the image's voxel size in the model's order of axes; a 2D model keeps the distance of slices.
    """
    spacing = settings["spacing"]
    return (*original[: 3 - len(spacing)], *spacing)


def _check(image: NDArray, spacing: Sequence[float], channels: int) -> None:
    if image.ndim != 4:
        raise InputError(
            f"the image has the shape {image.shape}; expected (channels, z, y, x), with a single slice for a picture"
        )
    if not (image.dtype == bool or np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)):
        raise InputError(f"the image's values are of the type {image.dtype}; expected real numbers")
    if image.shape[0] != channels:
        raise InputError(
            f"the image has {image.shape[0]} channels, and the model expects {channels}; give the channels on which "
            "the model was trained, in the same order"
        )
    if image.size == 0:
        raise InputError(f"the image has no pixels (its shape is {image.shape}); give one with pixels")
    sizes = [float(size) for size in spacing]
    if len(sizes) != 3 or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise InputError(
            f"the voxel size is {tuple(sizes)}; expected three positive numbers, for z, y and x: correct the image's "
            "header, or give the voxel size"
        )
