"""Resamples an axis-aligned part of a slice to a view of given size.

It is quick: separable gathers, no interpolation matrix, and nothing outside of the part is read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1


def resample_view(
    image: Any, segmentation: NDArray[np.int16], index: int, region: NDArray[np.float64], view_size: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Resamples a region of one slice.

    Args:
        image: (C, Z, H, W), an array or a compressed one that is read by slicing.
        segmentation: (H, W) of the slice.
        index: the slice.
        region: (y0, x0, y1, x1) in pixel edges of the slice; may reach beyond it.
        view_size: (h, w) of the result.

    Returns:
        The image (C, h, w), bilinear, averaged over blocks first where it shrinks by 2 or more; 0, the mean of
        normalised images, outside of the slice. The segmentation (h, w), nearest neighbour; -1 outside.
    """
    height, width = segmentation.shape
    rows, columns = (_positions(region[axis], region[axis + 2], view_size[axis]) for axis in (0, 1))
    mask = np.full(tuple(view_size), OUTSIDE, dtype=np.int16)
    view = np.zeros((image.shape[0], *view_size), dtype=np.float32)
    inside_rows, inside_columns = _inside(rows, height), _inside(columns, width)
    if inside_rows.stop <= inside_rows.start or inside_columns.stop <= inside_columns.start:
        return view, mask
    rows, columns = rows[inside_rows], columns[inside_columns]
    mask[inside_rows, inside_columns] = segmentation[np.ix_(_nearest(rows, height), _nearest(columns, width))]
    top, bottom = max(0, int(rows[0]) - 4), min(height, int(rows[-1]) + 6)
    left, right = max(0, int(columns[0]) - 4), min(width, int(columns[-1]) + 6)
    part = np.asarray(image[:, index, top:bottom, left:right], dtype=np.float32)
    for axis, (positions, start, low, high) in enumerate(
        ((rows, top, region[0], region[2]), (columns, left, region[1], region[3])), start=1
    ):
        factor = max(1, int((high - low) / view_size[axis - 1] + 1e-6))
        part = _shrink(part, axis, factor)
        part = _interpolate(part, axis, (positions - start) / factor)
    view[:, inside_rows, inside_columns] = part
    return view, mask


def _positions(low: float, high: float, size: int) -> NDArray[np.float64]:
    """Coordinates of the view's pixel centres in the slice."""
    return low + (np.arange(size) + 0.5) * (high - low) / size


def _inside(positions: NDArray[np.float64], size: int) -> slice:
    return slice(int(np.searchsorted(positions, 0)), int(np.searchsorted(positions, size)))


def _nearest(positions: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.clip(np.floor(positions), 0, size - 1).astype(np.int64)


def _shrink(part: NDArray[np.float32], axis: int, factor: int) -> NDArray[np.float32]:
    if factor == 1:
        return part
    missing = -part.shape[axis] % factor
    if missing:
        padding = [(0, 0)] * part.ndim
        padding[axis] = (0, missing)
        part = np.pad(part, padding, mode="edge")
    shape = list(part.shape)
    shape[axis : axis + 1] = [shape[axis] // factor, factor]
    return part.reshape(shape).mean(axis=axis + 1, dtype=np.float32)


def _interpolate(part: NDArray[np.float32], axis: int, positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Linear interpolation at positions in pixel edges (a pixel's centre is at index + 0.5); constant at the ends."""
    last = part.shape[axis] - 1
    centred = np.clip(positions - 0.5, 0, last)
    lower = np.floor(centred).astype(np.int64)
    share = (centred - lower).astype(np.float32)
    shape = [1] * part.ndim
    shape[axis] = -1
    share = share.reshape(shape)
    first = part.take(lower, axis=axis)
    return first + share * (part.take(np.minimum(lower + 1, last), axis=axis) - first)
