"""Mean and standard deviation as nnU-Net's z-score normalisation takes them, without a float copy of the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# nnU-Net's ZScoreNormalization divides by at least this.
MIN_STD = 1e-8
_CHUNK = 2**20


def nonzero_slices(image: NDArray) -> tuple[slice, ...]:
    """Returns the bounding box of what is not zero in any channel, or the whole of an image of zeros.

    nnU-Net crops to this box before it normalises. Image: (H, W, C) or (D, H, W, C).
    """
    found: tuple[slice, ...] = ()
    for axis in range(image.ndim - 1):
        size = image.shape[axis]
        rest = np.moveaxis(image[found], axis, 0)
        first = next((index for index in range(size) if rest[index].any()), None)
        if first is None:
            return tuple(slice(0, side) for side in image.shape[:-1])
        last = next(index for index in reversed(range(size)) if rest[index].any())
        found = (*found, slice(first, last + 1))
    return found


@dataclass(frozen=True)
class Normalization:
    """How nnU-Net normalises an image.

    Attributes:
        inside: the part that nnU-Net keeps: the box of what is not zero in any channel. What lies outside of it does
            not exist for the network, which sees 0 there, as beyond the image.
        mean: (C,), over that part.
        std: (C,), over that part, positive.
    """

    inside: tuple[slice, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of(cls, image: NDArray) -> "Normalization":
        """Measures an image, (H, W, C) or (D, H, W, C)."""
        inside = nonzero_slices(image)
        cropped = image[inside]
        pairs = [_mean_and_std(cropped[..., channel]) for channel in range(image.shape[-1])]
        mean, std = np.array(pairs, dtype=np.float64).T
        return cls(inside, mean, np.maximum(std, MIN_STD))


def _mean_and_std(values: NDArray) -> tuple[float, float]:
    if values.dtype in (np.uint8, np.uint16):
        counts = _histogram(values).astype(np.float64)
        levels = np.arange(counts.size, dtype=np.float64)
        mean = float(counts @ levels) / values.size
        return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / values.size))
    mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in _chunks(values)) / values.size
    squares = sum(float(((chunk.astype(np.float64) - mean) ** 2).sum()) for chunk in _chunks(values))
    return mean, float(np.sqrt(squares / values.size))


def _histogram(values: NDArray) -> NDArray[np.int64]:
    if values.dtype == np.uint8:
        # Pillow counts 8-bit pictures without widening them.
        planes = values[None] if values.ndim == 2 else values
        return np.sum([Image.fromarray(np.ascontiguousarray(plane)).histogram() for plane in planes], axis=0)
    return np.sum([np.bincount(chunk.ravel(), minlength=2**16) for chunk in _chunks(values)], axis=0)


def _chunks(values: NDArray) -> Iterator[NDArray]:
    rows = max(1, _CHUNK // max(1, values[0].size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
