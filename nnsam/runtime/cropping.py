"""Cropping to what is not zero, as nnU-Net's preprocessing does it."""

import numpy as np
from numpy.typing import NDArray

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
