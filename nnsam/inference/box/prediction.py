"""Results of a prediction with box prompts."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import slices
from nnsam.inference.box.image import Plane
from nnsam.prompts.convention import to_challenge


@dataclass(frozen=True)
class Request:
    """A box in a picture or slice.

    Attributes:
        plane: where.
        box: (y0, x0, y1, x1), half-open, whole pixels within the plane, not empty.
    """

    plane: Plane
    box: NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the box."""
        y0, x0, y1, x1 = (int(value) for value in self.box)
        return y1 - y0, x1 - x0


THRESHOLD = 0.5
OVERLAPS = ("smaller", "score")


@dataclass(frozen=True)
class ObjectMask:
    """An object within its box.

    Attributes:
        origin: the box, half-open in array order, (4,) or (6,).
        mask: of the box's shape.
    """

    origin: NDArray[np.int64]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Prediction:
    """One object per box; what lies outside a box is never part of its object.

    Attributes:
        shape: (H, W) or (D, H, W) of the image.
        boxes: (N, 4) or (N, 6), half-open in array order, see :mod:`nnsam.geometry.boxes`; `xyxy` has them as users
            give them.
        probabilities: N arrays, float32 in 0..1, each of its box's shape.
        passes: number of patches that the network computed.
        masks: N masks, where the probability is above 0.5.
        scores: (N,) in 0..1, the mean probability over each mask; 0 for an empty one.
    """

    shape: tuple[int, ...]
    boxes: NDArray[np.int64]
    probabilities: list[NDArray[np.float32]]
    passes: int
    masks: list[ObjectMask] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        masks = [
            ObjectMask(box, probability > THRESHOLD)
            for box, probability in zip(self.boxes, self.probabilities, strict=True)
        ]
        scores = [
            float(probability.mean(where=found.mask, dtype=np.float64)) if found.mask.any() else 0.0
            for found, probability in zip(masks, self.probabilities, strict=True)
        ]
        object.__setattr__(self, "masks", masks)
        object.__setattr__(self, "scores", np.array(scores))

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def xyxy(self) -> NDArray[np.int64]:
        """The boxes in the users' convention, the last pixel included.

        (N, 4) as [x_min, y_min, x_max, y_max], or (N, 6) as [x_min, y_min, z_min, x_max, y_max, z_max].
        """
        return to_challenge(self.boxes)

    def full_mask(self, index: int) -> NDArray[np.bool_]:
        """Returns object `index` as a mask of the image's shape."""
        full = np.zeros(self.shape, dtype=bool)
        full[slices(self.boxes[index])] = self.masks[index].mask
        return full

    def label_map(self, overlap: str = "smaller") -> NDArray[np.uint16]:
        """Returns one label per pixel, of the image's shape: i + 1 for object i, 0 for the background.

        The order in which boxes were given does not matter.

        Args:
            overlap: who gets the pixels that several objects have. "smaller": the object with the smaller box, so that
                what lies within a larger object, as a ventricle in a heart, is kept whole, and borders are those of
                masks; of boxes of one size the more probable object's, then that whose box comes first in array order.
                "score": at each pixel the more probable object, of equally probable ones that with the smaller box.

        Raises:
            InputError: another rule, or more objects than 16 bits can number.
        """
        if overlap not in OVERLAPS:
            raise InputError(f"the rule {overlap!r} for overlaps is unknown; expected {' or '.join(OVERLAPS)}")
        if len(self) > np.iinfo(np.uint16).max:
            raise InputError(f"{len(self)} objects do not fit into one label map; predict at most 65535 at once")
        labels = np.zeros(self.shape, dtype=np.uint16)
        if overlap == "smaller":
            for index in reversed(self._by_size(self.scores)):
                labels[slices(self.boxes[index])][self.masks[index].mask] = index + 1
            return labels
        best = np.zeros(self.shape, dtype=np.float32)
        for index in self._by_size(np.zeros(len(self))):
            inside = slices(self.boxes[index])
            wins = self.masks[index].mask & (self.probabilities[index] > best[inside])
            labels[inside][wins] = index + 1
            best[inside][wins] = self.probabilities[index][wins]
        return labels

    def _by_size(self, scores: NDArray[np.float64]) -> list[int]:
        """From the smallest box to the largest; of one size from the highest score, then in array order."""

        def key(index: int) -> tuple[float, ...]:
            box = (int(value) for value in self.boxes[index])
            return (self.probabilities[index].size, -float(scores[index]), *box, index)

        return sorted(range(len(self)), key=key)
