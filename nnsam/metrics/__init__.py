"""Overlap and surface distances between binary masks; needs numpy and scipy only.

Masks are boolean, (H, W) or (D, H, W). `spacing` is in array order: (y, x) or (z, y, x), the reverse of SimpleITK's.
Pixels beyond the array's edge count as background.

Empty masks: where both are empty every score is nan. Where one is (a total miss or a false alarm), Dice and surface
Dice are 0, and the distances are what the argument `empty` says, never 0.
"""

from nnsam.metrics.overlap import dice
from nnsam.metrics.surface import average_surface_distance, hausdorff95, surface_dice

__all__ = ["average_surface_distance", "dice", "hausdorff95", "surface_dice"]
