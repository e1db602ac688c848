"""Overlap and surface distances between binary masks; needs numpy and scipy only.

Masks are boolean, (H, W) or (D, H, W). `spacing` is in array order: (y, x) or (z, y, x), the reverse of SimpleITK's.
Pixels beyond the array's edge count as background.

Empty masks: where both are empty every score is nan. Where one is (a total miss or a false alarm), Dice and surface
Dice are 0, and the distances are what the argument `empty` says, never 0.

Names are imported on first use (PEP 562): scipy.ndimage takes a quarter of a second.
"""

from typing import TYPE_CHECKING

from nnsam.support.lazy import lazy_names

if TYPE_CHECKING:
    from nnsam.metrics.masks import dice as dice
    from nnsam.metrics.surface import average_surface_distance as average_surface_distance
    from nnsam.metrics.surface import hausdorff95 as hausdorff95
    from nnsam.metrics.surface import surface_dice as surface_dice

_EXPORTS = {
    "average_surface_distance": "nnsam.metrics.surface",
    "dice": "nnsam.metrics.masks",
    "hausdorff95": "nnsam.metrics.surface",
    "surface_dice": "nnsam.metrics.surface",
}
__all__ = sorted(_EXPORTS)

if not TYPE_CHECKING:  # so that a type checker knows that there are no other names
    __getattr__ = lazy_names(__name__, _EXPORTS)
