"""Objects in label maps: connected components, and the random choice of one to prompt for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Specks of fewer pixels are annotation noise (resampled or JPEG-compressed masks); they are chosen only where a label
# has nothing larger.
MIN_PIXELS = 10


def class_mask(labels: NDArray[np.integer], values: int | Sequence[int]) -> NDArray[np.bool_]:
    """Returns where a label map holds one value, or any value of a region."""
    return labels == values if isinstance(values, (int, np.integer)) else np.isin(labels, list(values))


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Numbers the connected components of a mask from 1; pixels that share a corner are connected."""
    from scipy import ndimage

    return ndimage.label(mask, structure=np.ones((3,) * mask.ndim, dtype=bool))


def random_component(mask: NDArray[np.bool_], rng: Any, min_pixels: int = MIN_PIXELS) -> NDArray[np.bool_]:
    """Returns one connected component of a mask, each with equal probability (Stock et al., section 2.4).

    Components of fewer than `min_pixels` are left out, unless there are only such; then it is the largest.

    Raises:
        ValueError: the mask is empty.
    """
    numbered, count = components(mask)
    if not count:
        raise ValueError("an empty mask has no component")
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(sizes >= min_pixels)
    chosen = rng.choice(large) if large.size else int(sizes.argmax())
    return numbered == chosen + 1
