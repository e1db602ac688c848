"""nnU-Net's `resample_torch_fornnunet` in NumPy: linear in all axes, or the nearest slice along a coarse axis.

Source: PyTorch's `interpolate` with `align_corners=False` and "nearest-exact". The same positions in single precision;
sums are taken in another order, so that results agree to about 1e-6 of the values.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def linear(image: NDArray, shape: Sequence[int]) -> NDArray[np.float32]:
    """Returns an image resampled linearly, one axis after the other.

    Args:
        image: any number of axes; half precision is computed and returned in single precision.
        shape: of the result.
    """
    result = image.astype(np.float32, copy=False)
    for axis, size in enumerate(shape):
        count = result.shape[axis]
        if count != size:
            position = np.maximum(0, _scale(count, size) * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - 0.5)
            low = np.minimum(position.astype(np.intp), count - 1)
            share = (position - low).astype(np.float32)
            share = share.reshape(-1, *[1] * (result.ndim - axis - 1))
            high = np.take(result, np.minimum(low + 1, count - 1), axis=axis)
            high *= share
            result = np.take(result, low, axis=axis)
            result *= 1 - share
            result += high
    return result


def nearest(image: NDArray, size: int, axis: int) -> NDArray[np.float32]:
    """Returns an image resampled along one axis to the nearest slices, in single precision."""
    return np.take(image, nearest_slices(image.shape[axis], size), axis=axis).astype(np.float32, copy=False)


def nearest_slices(count: int, size: int) -> NDArray[np.intp]:
    """Returns which of `count` slices is shown by each of `size`, PyTorch's "nearest-exact"."""
    # Ties depend on the last bit: PyTorch rounds scale * (i + 0.5) - 0.5 to float32 once (fused), then adds 0.5.
    position = (np.float64(_scale(count, size)) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    return np.minimum(np.floor(position + np.float32(0.5)).astype(np.intp), count - 1)


def _scale(count: int, size: int) -> np.float32:
    return np.float32(count) / np.float32(size)
