"""Where zoomed inference looks: a region around the box that is resized to one patch.

Stock et al. tile the surroundings of a box at the image's own resolution, so their cost grows with the image (49 s for
one box in 3024 x 4032 pixels, their Table 4), and objects larger than a patch are never seen as a whole. Here the box
with some context fills one patch whatever its size; training draws the same view.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.geometry.boxes import sides

# The patch shows 1.5 times the box along the axis that limits the zoom: a quarter of the box's side on either side.
CONTEXT = 1.5
# Larger magnification shows nothing new, only interpolated pixels.
MAX_SCALE = 4.0


def zoom_scale(box: ArrayLike, patch_size: Sequence[int], context: float = CONTEXT) -> float:
    """Returns patch pixels per image pixel, the same for both axes, at most `MAX_SCALE`.

    Args:
        box: (y0, x0, y1, x1), half-open, not empty.
        patch_size: (H, W) of the network's input.
        context: how many times the box's side the patch shows, along the axis that limits the zoom.
    """
    return float(min(MAX_SCALE, *(np.asarray(patch_size) / (context * sides(box)))))


def zoom_region(box: ArrayLike, patch_size: Sequence[int], context: float = CONTEXT) -> NDArray[np.float64]:
    """Returns the part of the image that becomes the patch, (y0, x0, y1, x1), centred on the box.

    It may reach beyond the image, where the network sees zeros, the mean of a normalised image.

    Example:
        >>> zoom_region([100, 100, 300, 200], (224, 288)).tolist()
        [50.0, -42.85714285714286, 350.0, 342.8571428571429]
    """
    corners = np.asarray(box, dtype=np.float64)
    centre = (corners[:2] + corners[2:]) / 2
    half = np.asarray(patch_size) / (2 * zoom_scale(box, patch_size, context))
    return np.concatenate([centre - half, centre + half])
