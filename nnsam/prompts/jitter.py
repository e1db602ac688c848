"""Random changes of boxes in training, so that a network copes with boxes drawn by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.geometry.boxes import clip, sides

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
