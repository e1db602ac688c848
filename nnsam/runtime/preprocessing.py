"""From an image to what the network sees: nnU-Net's DefaultPreprocessor without nnU-Net.

Axes are transposed, zeros around the image are cut off, intensities are normalised, voxels brought to the model's
size, in this order. All values are those of nnU-Net to the last bit, given an array of the same memory layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.runtime.cropping import Box, box_slices, filled_mask, nonzero_box
from nnsam.runtime.normalization import normalize, uses_mask
from nnsam.runtime.resampling import Resampling, resampled_shape


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
