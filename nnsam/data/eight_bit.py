"""Images of any type as 8-bit RGB pictures."""

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)


def to_eight_bit(image: NDArray) -> NDArray[np.uint8]:
    """Intensities from 0 to 255.

    8-bit images stay as they are; in the challenge's data this includes CT, whose window was applied before. All
    others are clipped to the 0.5th and 99.5th percentile of the voxels that are not 0, and scaled, as the challenge
    does for MR; voxels of exactly 0 stay 0 where no voxel is negative, since then 0 is what lies outside the body.

    Args:
        image: any shape, a whole picture or volume; finite real numbers.

    Returns:
        The same shape.

    Example:
        >>> to_eight_bit(np.array([0, 100, 200, 300], np.int16)).tolist()
        [0, 0, 127, 255]
    """
    if image.dtype == np.uint8:
        return image
    values = image.astype(np.float64)
    occupied = values[values != 0]
    if not occupied.size:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(occupied, PERCENTILES)
    if high <= low:
        return np.where(values >= high, 255, 0).astype(np.uint8)
    scaled = (np.clip(values, low, high) - low) / (high - low) * 255
    if values.min() >= 0:
        scaled[values == 0] = 0
    return scaled.astype(np.uint8)


def to_rgb(picture: NDArray[np.uint8], is_colour: bool) -> NDArray[np.uint8]:
    """(H, W) repeated to (H, W, 3); colour stays as it is."""
    return picture if is_colour else np.repeat(picture[..., None], 3, axis=-1)
