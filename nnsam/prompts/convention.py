"""The one place where boxes cross the border between users' and this package's convention, once in and once out.

Users, JSON files, the command line and the challenge's npz files give [x_min, y_min, x_max, y_max], for volumes
[x_min, y_min, z_min, x_max, y_max, z_max], and the last pixel belongs to the box: a single pixel at (x, y) is
[x, y, x, y]. Inside, boxes are half-open and in array order, see :mod:`nnsam.geometry.boxes`.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError, NnsamWarning
from nnsam.support.text import shown


def from_challenge(boxes: ArrayLike) -> NDArray:
    """Turns boxes of the challenge's convention (..., 2 D) into half-open ones in array order.

    Example:
        >>> from_challenge([2, 1, 5, 2]).tolist()
        [1, 2, 3, 6]
    """
    array = np.asarray(boxes)
    half = array.shape[-1] // 2
    return np.concatenate([array[..., :half][..., ::-1], array[..., half:][..., ::-1] + 1], axis=-1)


def to_challenge(boxes: ArrayLike) -> NDArray:
    """Turns half-open boxes in array order into the challenge's convention; inverse of :func:`from_challenge`."""
    array = np.asarray(boxes)
    half = array.shape[-1] // 2
    return np.concatenate([array[..., :half][..., ::-1], array[..., half:][..., ::-1] - 1], axis=-1)


_AXES = {2: "x_min, y_min, x_max, y_max", 3: "x_min, y_min, z_min, x_max, y_max, z_max"}


def _holds_others(boxes: object) -> bool:
    """Whether there are truth values or texts among the numbers, which NumPy would turn into numbers."""
    if isinstance(boxes, (list, tuple)):
        return any(map(_holds_others, boxes))
    return isinstance(boxes, (bool, str, bytes)) or (isinstance(boxes, np.ndarray) and boxes.dtype.kind in "bSU")


def check_boxes(boxes: ArrayLike, shape: Sequence[int], source: str = "boxes") -> NDArray[np.int64]:
    """Checks boxes in the users' convention against an image and returns them as this package's, (N, 2 D).

    A box that reaches beyond the image is refused rather than cut: it is nearly always one of another image, or has
    its coordinates in another order. The one exception are boxes that end at the width, height or depth itself: the
    scripts of MedSAM and LiteMedSAM clip boxes to these, so that they are taken to end with the last pixel.

    Args:
        boxes: N boxes, or one, as [x_min, y_min, x_max, y_max] (z after y for volumes), last pixel included.
        shape: of the image, (H, W) or (D, H, W).
        source: where the boxes come from, for messages.

    Raises:
        InputError: no box; not numbers, NaN, not whole; wrong number of values; inverted; outside the image.

    Warns:
        NnsamWarning: boxes end at the width, height or depth.
    """
    dimensions = len(shape)
    expected = f"[{_AXES[dimensions]}]"
    array: NDArray[np.float64] | None
    try:
        array = None if _holds_others(boxes) else np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        array = None
    if array is None or array.ndim == 0:
        raise InputError(f"{source}: expected boxes as {expected}, all numbers; found {shown(boxes)}")
    if array.size == 0:
        raise InputError(f"{source}: found no box; expected at least one as {expected}")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2 * dimensions:
        hint = _dimension_hint(array.shape[-1], dimensions)
        raise InputError(
            f"{source}: found {array.shape[-1]} values per box, expected {2 * dimensions}, {expected}, for an image "
            f"with {dimensions} dimensions{hint}"
        )
    for index, box in enumerate(array):
        _check_box(box, shape, f"{source}: box {index + 1}" if len(array) > 1 else source)
    inside = from_challenge(array.astype(np.int64))
    return _without_habit_of_medsam(inside, shape, source)


def _without_habit_of_medsam(boxes: NDArray[np.int64], shape: Sequence[int], source: str) -> NDArray[np.int64]:
    """Cuts the one pixel by which half-open coordinates that are taken for inclusive ones are too large."""
    beyond = (boxes[:, len(shape) :] > shape).any(axis=1)
    if not beyond.any():
        return boxes
    warnings.warn(
        f"{source}: {int(beyond.sum())} of {len(boxes)} boxes end one pixel beyond the image and are taken to end with "
        "its last pixel; coordinates name the last pixel inside the box.",
        NnsamWarning,
        stacklevel=3,
    )
    return np.minimum(boxes, [*shape, *shape])


def _dimension_hint(values: int, dimensions: int) -> str:
    if values == 4 and dimensions == 3:
        return "; a volume needs boxes with z_min and z_max"
    if values == 6 and dimensions == 2:
        return "; a picture needs boxes without z"
    return ""


def _check_box(box: NDArray[np.float64], shape: Sequence[int], source: str) -> None:
    numbers = [float(value) for value in box]
    shown = "[" + ", ".join(f"{value:g}" for value in numbers) + "]"
    if not np.isfinite(box).all():
        raise InputError(f"{source} is {shown}; expected finite numbers")
    if not (box == np.round(box)).all():
        raise InputError(f"{source} is {shown}; expected whole pixel numbers")
    half = len(box) // 2
    limits = np.array(shape[::-1])  # (x, y[, z])
    for axis, name in enumerate("xyz"[:half]):
        low, high, size = numbers[axis], numbers[axis + half], limits[axis]
        if low > high:
            raise InputError(f"{source} is {shown}, with {name}_min > {name}_max; expected {_AXES[half]} in this order")
        if low < 0 or low >= size or high > size:
            raise InputError(
                f"{source} is {shown}, which reaches beyond the image: its {name} runs from 0 to {size - 1}"
            )
