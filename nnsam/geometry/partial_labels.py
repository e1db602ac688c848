"""The level set that a network learns, with NaN where a partly labelled image leaves it unknown. Imports no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.geometry.signed_distance import BAND, signed_distance, squash

#: Largest error that an unseen boundary may cause in the squashed level set before a pixel counts as unknown.
TOLERANCE = 0.05

#: tanh(4) = 0.9993: farther away the squashed level set is constant for every practical purpose.
_CUT_OFF_IN_BANDS = 4.0


def level_set_target(
    mask: NDArray[Any],
    ignored: NDArray[Any] | None = None,
    *,
    band: float = BAND,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Computes tanh(d / band) of the signed distance d, and marks what ignored pixels leave undetermined.

    An ignored area may hide anything, so the true distance lies between ``min(|d|, e)`` and ``|d|``, where d is the
    distance to the nearest *known* pixel of the other side and e that to the ignored area. A pixel is kept if the
    squashed value differs by less than :data:`TOLERANCE` between the two ends: pixels nearer to a known boundary than
    to the ignored area, and pixels far from both.

    Args:
        mask: Shape (..., H, W), inside where not 0.
        ignored: True where the label is unknown; broadcastable to `mask`. None: everything is known.
        band: Scale in pixels, see :func:`nnsam.geometry.squash`.
        spacing: (y, x) size of a pixel, see :func:`nnsam.geometry.signed_distance`.

    Returns:
        Shape (..., H, W), float32 in [-1, 1], negative inside, NaN where unknown. Beyond 4 bands it is exactly -1 or 1.

    Example:
        >>> mask = np.zeros((1, 40), dtype=bool)
        >>> level_set_target(mask, np.arange(40)[None] < 10)[0, [5, 12, 39]].tolist()
        [nan, nan, 1.0]
    """
    reach = _CUT_OFF_IN_BANDS * band
    if ignored is None or not np.any(ignored):
        return squash(signed_distance(mask, spacing, max_distance=reach), band)
    distance = signed_distance(mask, spacing, ignored=ignored, max_distance=reach)
    to_ignored = np.maximum(signed_distance(ignored, spacing, max_distance=reach), 0)
    farthest = np.abs(distance)
    nearest = np.minimum(farthest, to_ignored)
    target = squash(distance, band)
    # NaN (ignored) pixels compare false and stay NaN.
    target[squash(farthest, band) - squash(nearest, band) >= TOLERANCE] = np.nan
    return target
