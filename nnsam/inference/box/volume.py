"""Boxes in volumes: from the middle slice to both ends, slice by slice."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import box_of_mask, expand, shift, to_pixels
from nnsam.inference.box.image import PreparedImage
from nnsam.inference.box.prediction import THRESHOLD, Request

PROMPTS = ("ellipsoid", "mask", "box")

# Computes requests: the probability of each object, of its box's shape, in order.
Segmenter = Callable[[Sequence[Request]], Iterable[NDArray[np.float32]]]


@dataclass(frozen=True)
class Propagation:
    """How a 3D box prompts the slices.

    Attributes:
        prompt: "ellipsoid": every slice by the cross-section of the ellipsoid inscribed in the 3D box, as most objects
            taper towards both ends; a network that was trained with tight boxes fills the box that it gets, so it
            cannot tell by itself. "mask": the middle slice by the 3D box's rectangle, every other by the box of the
            mask found in its neighbour on the middle's side, with a margin. "box": every slice by the rectangle. All
            stay within the 3D box.
        smallest: "ellipsoid": the cross-section's sides are at least this share of the rectangle's.
        follow: "ellipsoid": how far the cross-section's centre moves from the rectangle's centre (0) to that of the
            mask found in the neighbouring slice (1).
        margin: "mask": of that box, as a share of its longer side, on every side.
        min_margin: "mask": pixels that the margin has at least.
        stop_share: a slice whose object has less than this share of the largest area found so far counts as empty.
        patience: that many empty slices in a row end the propagation in their direction, except with "box"; earlier
            ones are left out. As long as nothing has been found at all, every slice is tried.
    """

    prompt: str = "ellipsoid"
    smallest: float = 0.3
    follow: float = 0.5
    margin: float = 0.1
    min_margin: int = 3
    stop_share: float = 0.005
    patience: int = 2

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise InputError(f"the propagation {self.prompt!r} is unknown; expected {' or '.join(PROMPTS)}")
        if self.margin < 0 or self.min_margin < 0 or not 0 <= self.stop_share < 1 or self.patience < 1:
            raise InputError("margins of a propagation are at least 0, its stop_share is 0..1, its patience at least 1")
        if not 0 < self.smallest <= 1 or not 0 <= self.follow <= 1:
            raise InputError("the smallest share of a propagation is above 0 and at most 1, its follow 0..1")


def propagate(
    image: PreparedImage, boxes: NDArray[np.int64], segment: Segmenter, propagation: Propagation
) -> list[NDArray[np.float32]]:
    """Segments objects in a volume; all boxes advance together, so that slices are computed in batches over objects.

    Args:
        image: a volume.
        boxes: (N, 6), half-open.
        segment: computes 2D requests.
        propagation: see :class:`Propagation`.

    Returns:
        N probabilities of the boxes' shapes, 0 in slices that were not reached.
    """
    results = [np.zeros(box[3:] - box[:3], dtype=np.float32) for box in boxes]
    walks = [_Walk(box, result, propagation) for box, result in zip(boxes, results, strict=True)]
    _advance(image, walks, segment)
    # Downwards with what the middle slice has shown, and upwards.
    branches = [branch for walk in walks for branch in (walk.branch(-1), walk.branch(1))]
    while branches := [branch for branch in branches if branch.goes_on]:
        _advance(image, branches, segment)
    return results


def _advance(image: PreparedImage, walks: Sequence["_Walk"], segment: Segmenter) -> None:
    requests = [Request(image.plane(walk.slice), walk.prompt) for walk in walks]
    for walk, probability in zip(walks, segment(requests), strict=True):
        walk.take(probability)


class _Walk:
    """One box on its way through the slices in one direction; a new one stands on the middle slice."""

    def __init__(self, box: NDArray[np.int64], result: NDArray[np.float32], propagation: Propagation):
        self._box, self._result, self._propagation = box, result, propagation
        self._rectangle = box[[1, 2, 4, 5]]
        self._direction = 0
        self._largest = 0
        self._empty = 0
        self._found: NDArray[np.int64] | None = None  # the box of the last mask, within the slice
        self.slice = int(box[0] + (box[3] - box[0]) // 2)
        self.prompt = self._rectangle

    def branch(self, direction: int) -> "_Walk":
        """Returns a walk that continues from here upwards (1) or downwards (-1)."""
        other = _Walk(self._box, self._result, self._propagation)
        other._direction, other._largest, other._empty = direction, self._largest, 0
        other.slice, other._found = self.slice + direction, self._found
        other.prompt = other._choose_prompt()
        return other

    @property
    def goes_on(self) -> bool:
        """Whether there is a next slice to look at."""
        gave_up = self._propagation.prompt != "box" and self._empty >= self._propagation.patience
        return not gave_up and self._box[0] <= self.slice < self._box[3]

    def take(self, probability: NDArray[np.float32]) -> None:
        """Stores a slice's result, (height, width) of the prompt, and moves on."""
        mask = probability > THRESHOLD
        area = int(np.count_nonzero(mask))
        found = area > 0 and area >= self._propagation.stop_share * self._largest
        if found or self._propagation.prompt == "box":
            y0, x0, y1, x1 = self.prompt - np.tile(self._rectangle[:2], 2)
            self._result[self.slice - int(self._box[0]), y0:y1, x0:x1] = probability
        if found:
            self._largest = max(self._largest, area)
            self._empty = 0
            self._found = shift(box_of_mask(mask), self.prompt[:2])
        elif self._largest:
            self._empty += 1
        self.slice += self._direction
        self.prompt = self._choose_prompt()

    def _choose_prompt(self) -> NDArray[np.int64]:
        """The box of the current slice, within the rectangle and at least a pixel wide."""
        kind, found = self._propagation.prompt, self._found
        if kind == "ellipsoid":
            wide = self._cross_section()
        elif kind == "mask" and found is not None:
            longest = int((found[2:] - found[:2]).max())
            margin = max(self._propagation.min_margin, round(self._propagation.margin * longest))
            wide = expand(found, margin)
        else:
            return self._rectangle
        limits = self._rectangle
        return np.concatenate([np.maximum(wide[:2], limits[:2]), np.minimum(wide[2:], limits[2:])])

    def _cross_section(self) -> NDArray[np.int64]:
        """The ellipsoid's bounding box in the current slice; its centre follows the object."""
        start, stop = int(self._box[0]), int(self._box[3])
        height = (2 * self.slice + 1 - start - stop) / (stop - start)  # of the slice's middle, -1..1
        share = max(self._propagation.smallest, float(np.sqrt(max(0.0, 1 - height**2))))
        rectangle = self._rectangle.astype(np.float64)
        centre = (rectangle[:2] + rectangle[2:]) / 2
        if self._found is not None:
            centre += self._propagation.follow * ((self._found[:2] + self._found[2:]) / 2 - centre)
        half = share * (rectangle[2:] - rectangle[:2]) / 2
        return to_pixels(np.concatenate([centre - half, centre + half]))
