"""Checks on the arguments that all metrics share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

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
