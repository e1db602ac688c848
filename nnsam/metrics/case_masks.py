"""Prediction and reference of one case, class by class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.metrics.classes import Classes
from nnsam.metrics.masks import Mask


@dataclass(frozen=True)
class CaseMasks:
    """What a profile scores.

    Attributes:
        prediction: label values, (H, W) or (D, H, W).
        reference: likewise, of the same shape.
        classes: which values form a class; pixels that the reference marks as ignored count as background in both.
        spacing: pixel size in array order, (y, x) or (z, y, x).
    """

    prediction: NDArray[np.integer]
    reference: NDArray[np.integer]
    classes: Classes
    spacing: tuple[float, ...]

    def __iter__(self) -> Iterator[tuple[str, Mask, Mask]]:
        """Yields every class: its name, and its boolean masks in the prediction and in the reference."""
        ignore = self.classes.ignore
        scored = None if ignore is None else self.reference != ignore
        for label, values in self.classes.values.items():
            masks = [_members(labels, values) for labels in (self.prediction, self.reference)]
            if scored is not None:
                masks = [mask & scored for mask in masks]
            yield label, masks[0], masks[1]


def _members(labels: NDArray[np.integer], values: Sequence[int]) -> Mask:
    return labels == values[0] if len(values) == 1 else np.isin(labels, values)
