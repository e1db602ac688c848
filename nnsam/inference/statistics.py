"""Mean and standard deviation as nnU-Net's z-score normalisation takes them, without a float copy of the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# nnU-Net's ZScoreNormalization divides by at least this.
MIN_STD = 1e-8
_STRIP = 2**21  # values


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
        if image.dtype in (np.uint8, np.uint16):
            pairs = [_moments_of_histogram(counts) for counts in _histograms(cropped)]
        else:
            pairs = [_moments(cropped[..., channel]) for channel in range(image.shape[-1])]
        mean, std = np.array(pairs, dtype=np.float64).T
        return cls(inside, mean, np.maximum(std, MIN_STD))


def strips(values: NDArray) -> Iterator[NDArray]:
    """Yields parts along the first axis that are small enough for a processor's cache."""
    rows = max(1, _STRIP // max(1, values[0].size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def _moments(values: NDArray) -> tuple[float, float]:
    mean = sum(float(strip.sum(dtype=np.float64)) for strip in strips(values)) / values.size
    squares = sum(float(((strip.astype(np.float64) - mean) ** 2).sum()) for strip in strips(values))
    return mean, float(np.sqrt(squares / values.size))


def _moments_of_histogram(counts: NDArray[np.int64]) -> tuple[float, float]:
    levels, total = np.arange(counts.size, dtype=np.float64), int(counts.sum())
    mean = float(counts @ levels) / total
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / total))


def _histograms(values: NDArray) -> NDArray[np.int64]:
    """Counts of each value per channel, (C, 256) or (C, 65536), of 8-bit or 16-bit (..., C)."""
    channels, levels = values.shape[-1], 2 ** (8 * values.dtype.itemsize)
    total = np.zeros((channels, levels), dtype=np.int64)
    for strip in strips(values):
        if levels == 256 and channels in (1, 3):  # Pillow counts 8-bit pictures without widening them
            pixels = np.ascontiguousarray(strip).reshape(-1, *strip.shape[-2:])
            counts = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).histogram()
            total += np.array(counts).reshape(channels, levels)
        else:
            for channel in range(channels):
                total[channel] += np.bincount(strip[..., channel].ravel(), minlength=levels)
    return total
