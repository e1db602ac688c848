"""Axis-aligned boxes on pixel grids, and what flips, crops and resizes do to them.

A box is its lower corner followed by its upper corner in array order, half-open: (y0, x0, y1, x1) or
(z0, y0, x0, z1, y1, x1) covers the pixels y0 <= y < y1. Coordinates count pixel edges, so a box that covers a whole
image of H x W pixels is (0, 0, H, W), sides are plain differences, and resizing multiplies. All functions take one box
(2 D,) or an array of boxes (..., 2 D), return arrays of the same leading shape, and leave their input alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_of_mask(mask: NDArray) -> NDArray[np.int64]:
    """Returns the smallest box that contains every non-zero pixel of a mask with D axes, (2 D,).

    Raises:
        ValueError: the mask is empty.

    Example:
        >>> mask = np.zeros((5, 6), bool)
        >>> mask[1:3, 2:6] = True
        >>> box_of_mask(mask).tolist()
        [1, 2, 3, 6]
    """
    lower, upper = [], []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not filled.size:
            raise ValueError("an empty mask has no box")
        lower.append(filled[0])
        upper.append(filled[-1] + 1)
    return np.array([*lower, *upper], dtype=np.int64)


def sides(boxes: ArrayLike) -> NDArray:
    """Returns the sides of boxes in pixels, (..., D)."""
    lower, upper = _corners(boxes)
    return upper - lower


def clip(boxes: ArrayLike, shape: Sequence[int]) -> NDArray:
    """Cuts boxes to an image of this shape; a box beyond the image becomes empty (a side of 0)."""
    lower, upper = _corners(boxes)
    return np.concatenate([np.clip(lower, 0, shape), np.clip(upper, 0, shape)], axis=-1)


def shift(boxes: ArrayLike, offset: ArrayLike) -> NDArray:
    """Moves boxes by an offset (D,) or (..., D); -origin turns image into crop coordinates."""
    lower, upper = _corners(boxes)
    return np.concatenate([lower + offset, upper + offset], axis=-1)


def flip(boxes: ArrayLike, shape: Sequence[int], axes: Sequence[int]) -> NDArray:
    """Mirrors boxes together with an image of this shape along the given axes.

    Example:
        >>> flip([1, 2, 3, 6], (5, 6), axes=[1]).tolist()
        [1, 0, 3, 4]
    """
    lower, upper = (corner.copy() for corner in _corners(boxes))
    for axis in axes:
        lower[..., axis], upper[..., axis] = shape[axis] - upper[..., axis], shape[axis] - lower[..., axis]
    return np.concatenate([lower, upper], axis=-1)


def resize_boxes(boxes: ArrayLike, factors: ArrayLike) -> NDArray[np.float64]:
    """Scales boxes together with an image whose sides are multiplied by `factors` (D,)."""
    lower, upper = _corners(np.asarray(boxes, dtype=np.float64))
    return np.concatenate([lower * factors, upper * factors], axis=-1)


def expand(boxes: ArrayLike, margin: ArrayLike) -> NDArray:
    """Moves every face outwards by `margin` pixels, a number or one per axis; not clipped."""
    lower, upper = _corners(boxes)
    return np.concatenate([lower - margin, upper + margin], axis=-1)


def to_pixels(boxes: ArrayLike) -> NDArray[np.int64]:
    """Rounds boxes to whole pixels, outwards: the result contains the box."""
    lower, upper = _corners(boxes)
    # A coordinate such as 7.000000001 is the rounding of a resize, not a touched pixel.
    return np.concatenate([np.floor(lower + 1e-6), np.ceil(upper - 1e-6)], axis=-1).astype(np.int64)


def slices(box: ArrayLike) -> tuple[slice, ...]:
    """Returns the index that cuts one whole-pixel box out of an array."""
    lower, upper = _corners(box)
    return tuple(slice(int(low), int(high)) for low, high in zip(lower, upper, strict=True))


def rasterize(box: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Draws one box as a mask of this shape: the pixels whose centre lies in the box.

    Example:
        >>> rasterize([0, 1, 1, 3], (2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    lower, upper = _corners(box)
    mask = np.ones(tuple(shape), dtype=bool)
    for axis, size in enumerate(shape):
        centres = np.arange(size) + 0.5
        inside = (centres >= lower[axis]) & (centres < upper[axis])
        mask &= inside.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return mask


def _corners(boxes: ArrayLike) -> tuple[NDArray, NDArray]:
    array = np.asarray(boxes)
    half = array.shape[-1] // 2
    return array[..., :half], array[..., half:]


def permute(boxes: ArrayLike, order: Sequence[int]) -> NDArray:
    """Boxes in an array whose axes were transposed: axis i of the result is axis order[i] of the array.

    Args:
        boxes: (..., 2 D), half-open in array order.
        order: of the D axes, as for `numpy.transpose`.

    Example:
        >>> permute([1, 2, 3, 11, 12, 13], (2, 0, 1)).tolist()
        [3, 1, 2, 13, 11, 12]
    """
    axes = list(order)
    return np.asarray(boxes)[..., [*axes, *(axis + len(axes) for axis in axes)]]
