"""Objects and boxes drawn for training: connected components, dilated and shifted boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.geometry.boxes import clip, sides

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


# Or the module numpy.random, whose global generator nnU-Net seeds in every worker.
Random = Any


@dataclass(frozen=True)
class BoxJitter:
    """Moves the faces of a box at random.

    Stock et al. dilate boxes at random (section 2.4, without numbers); shift and erosion go beyond the paper. All
    amounts are shares of the box's side along the same axis.

    Attributes:
        dilation: each face moves outwards by 0 to this share.
        erosion: or inwards by 0 to this share; the direction is drawn per face in the proportion of the two.
        shift: the whole box moves by up to this share either way, per axis.
        exact: probability that the box stays as it is.
    """

    dilation: float = 0.1
    erosion: float = 0.0
    shift: float = 0.0
    exact: float = 0.25

    def __call__(self, box: ArrayLike, shape: Sequence[int], rng: Random) -> NDArray[np.float64]:
        """Returns a changed copy of one box, at least a pixel wide and inside an image of this shape."""
        original = np.asarray(box, dtype=np.float64)
        if rng.uniform() < self.exact:
            return original
        side = sides(original)
        half = len(side)
        outwards = rng.uniform(-self.erosion, self.dilation, size=2 * half) * np.tile(side, 2)
        moved = np.tile(rng.uniform(-self.shift, self.shift, size=half) * side, 2)
        changed = np.rint(original + moved + outwards * np.repeat([-1.0, 1.0], half))
        return _at_least_a_pixel(clip(changed, shape), shape)


def _at_least_a_pixel(box: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    half = len(shape)
    for axis in range(half):
        box[axis] = min(box[axis], shape[axis] - 1)
        box[axis + half] = max(box[axis + half], box[axis] + 1)
    return box
