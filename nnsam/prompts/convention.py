"""The one place where boxes cross the border between users' and this package's convention.

Users, JSON files, the command line and the challenge's npz files give [x_min, y_min, x_max, y_max], for volumes
[x_min, y_min, z_min, x_max, y_max, z_max], and the last pixel belongs to the box: a single pixel at (x, y) is
[x, y, x, y]. Inside, boxes are half-open and in array order, see :mod:`nnsam.geometry.boxes`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
