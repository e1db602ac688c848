"""Checks on the arguments that all metrics share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.metrics.classes import Classes

Mask = NDArray[np.bool_]


def check_masks(prediction: Mask, reference: Mask) -> None:
    """Raises InputError unless both are boolean arrays of one shape, 2D or 3D."""
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if not isinstance(mask, np.ndarray) or mask.dtype != bool:
            found = getattr(mask, "dtype", type(mask).__name__)
            raise InputError(f"The {name} must be a boolean array, for example `labels == 1`; found {found}.")
        if mask.ndim not in (2, 3):
            raise InputError(f"The {name} must have 2 or 3 dimensions; found shape {mask.shape}.")
    if prediction.shape != reference.shape:
        raise InputError(f"Prediction and reference differ in shape: {prediction.shape} and {reference.shape}.")


def check_spacing(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Returns the spacing as floats in array order; (1, 1), that is pixels, where it may be left out.

    Raises:
        InputError: missing in 3D (where slices are rarely as thick as pixels are wide), of a wrong length, or holding
            something that is not positive and finite.
    """
    if spacing is None:
        if ndim == 3:
            raise InputError("Surface metrics of 3D masks need spacing=(z, y, x), in array order.")
        return (1.0, 1.0)
    values = tuple(float(value) for value in spacing)
    if len(values) != ndim:
        raise InputError(f"spacing must hold {ndim} values, as the masks have dimensions; found {values}.")
    if not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(f"spacing must be positive and finite; found {values}.")
    return values


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


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice similarity coefficient, 2 |P ∩ R| / (|P| + |R|).

    Args:
        prediction: boolean, (H, W) or (D, H, W).
        reference: boolean, of the same shape.

    Returns:
        0 (no overlap; also where only one mask is empty) to 1 (equal); nan where both are empty.

    Raises:
        InputError: the arrays are not boolean, or not of one shape.

    Example:
        >>> dice(np.array([[True, True, False]]), np.array([[False, True, False]]))
        0.6666666666666666
    """
    check_masks(prediction, reference)
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    if total == 0:
        return float("nan")
    return 2 * int(np.count_nonzero(prediction & reference)) / total
