"""Images given as arrays: which axis is what, and how large a pixel is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

# What nnU-Net takes for the missing third axis of a picture: thicker than any pixel.
_PICTURE_THICKNESS = 999.0


def as_channels(image: NDArray, channels: int, dimensions: int) -> tuple[NDArray, tuple[int, ...]]:
    """Brings an image into the layout that images have after reading.

    Args:
        image: (H, W), a picture of one channel; (D, H, W), a volume of one channel; (C, H, W), or (H, W, 3) in
            colour, a picture of several channels; (C, D, H, W), a volume.
        channels: C of the model.
        dimensions: 2 or 3, those of the model's patches. A model of 2 segments volumes slice by slice; one of 3 needs
            volumes.

    Returns:
        A view (C, D, H, W) with D = 1 for pictures, and the shape that the segmentation is to have: (H, W) or
        (D, H, W).

    Raises:
        InputError: the shape does not fit the model, or fits it in two ways.
    """
    stacked = _stack(image, channels)
    is_picture = image.ndim == 2 or (image.ndim == 3 and channels > 1)
    if dimensions == 3 and is_picture:
        raise InputError(f"the model segments volumes; found a picture of shape {image.shape}")
    return stacked, stacked.shape[2:] if is_picture else stacked.shape[1:]


def _stack(image: NDArray, channels: int) -> NDArray:
    if image.ndim == 2 and channels == 1:
        return image[None, None]
    if image.ndim == 3 and channels == 1:
        return image[None]
    if image.ndim == 3:
        first, last = image.shape[0] == channels, channels == 3 and image.shape[2] == channels
        if first and last:
            raise InputError(
                f"either end of shape {image.shape} may be the {channels} channels; give it as "
                f"({channels}, 1, height, width)"
            )
        if first or last:
            return (image if first else np.moveaxis(image, -1, 0))[:, None]
    if image.ndim == 4 and image.shape[0] == channels:
        return image
    expected = "(H, W), (D, H, W) or (1, D, H, W)" if channels == 1 else f"({channels}, H, W) or ({channels}, D, H, W)"
    raise InputError(f"the model takes images of shape {expected}; found {image.shape}")


def array_spacing(
    spacing: Sequence[float] | None, is_picture: bool, preprocessing: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Returns the pixel size of an image given as an array, (z, y, x).

    Args:
        spacing: (z, y, x) in the unit of the training images, mm as a rule; for pictures (y, x) too. None for the one
            that the model works at, so that nothing is resampled.
        is_picture: the image is one.
        preprocessing: this section of the manifest.

    Raises:
        InputError: not so many numbers, or numbers that are not above 0.
    """
    if spacing is None:
        own = [float(value) for value in preprocessing["spacing"]]
        own = [_PICTURE_THICKNESS] * (3 - len(own)) + own
        z, y, x = (own[axis] for axis in preprocessing["transpose_backward"])
        return z, y, x
    values = [float(value) for value in spacing]
    if is_picture and len(values) == 2:
        values.insert(0, _PICTURE_THICKNESS)
    if len(values) != 3 or not all(0 < value < np.inf for value in values):
        expected = "(y, x)" if is_picture else "(z, y, x)"
        raise InputError(f"spacing must be {expected}, numbers above 0; found {tuple(spacing)}")
    return values[0], values[1], values[2]
