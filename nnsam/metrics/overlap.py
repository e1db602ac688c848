"""Overlap of two masks."""

import numpy as np

from nnsam.metrics.masks import Mask, check_masks


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
