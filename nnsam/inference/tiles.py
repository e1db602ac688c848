"""Tiles of a sliding window: where they lie, how they are weighted, in which mirrored versions they are seen.

Source: nnU-Net (Isensee et al. 2021), whose numbers are met exactly, rounding included.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STEP = 0.5
SIGMA = 1 / 8
# The weight at a tile's centre. In half precision it keeps a tile's corners from vanishing.
_PEAK = 10
# Gaussian kernels are cut off beyond this many standard deviations.
_TRUNCATE = 4.0

# Closer tiles than a hundredth of their size take days and change nothing.
LEAST_STEP = 0.01
Tile = tuple[int | slice, ...]


def tile_steps(size: int, patch: int, step: float = STEP) -> list[int]:
    """Returns nnU-Net's tile positions along one axis: evenly spread, at most `step` patches apart.

    Args:
        size: pixels of the image along the axis, at least `patch`.
        patch: pixels of a tile.
        step: greatest distance of two tiles, in tiles.

    Example:
        >>> tile_steps(110, 64, 0.5)
        [0, 23, 46]
    """
    count = int(np.ceil((size - patch) / (patch * step))) + 1
    if count == 1:
        return [0]
    return [int(np.round((size - patch) / (count - 1) * index)) for index in range(count)]


def tile_starts(shape: Sequence[int], patch_size: Sequence[int], step: float = STEP) -> list[tuple[int, int, int]]:
    """Returns the first voxels of all tiles, in the order in which nnU-Net computes them.

    Args:
        shape: (z, y, x) of the image, at least a patch along each of the patch's axes.
        patch_size: 3 values, or 2: then each slice along z is tiled on its own.
        step: greatest distance of two tiles, in tiles, in (0, 1].
    """
    free = len(shape) - len(patch_size)
    axes: list[list[int]] = [list(range(size)) for size in shape[:free]]
    axes += [tile_steps(size, patch, step) for size, patch in zip(shape[free:], patch_size, strict=True)]
    return [(z, y, x) for z, y, x in itertools.product(*axes)]


def tile_at(start: Sequence[int], patch_size: Sequence[int]) -> Tile:
    """Returns what cuts a tile out of an image (z, y, x): slices, and the number of the slice for 2D patches."""
    free = len(start) - len(patch_size)
    extents = (slice(low, low + size) for low, size in zip(start[free:], patch_size, strict=True))
    return (*start[:free], *extents)


def padding(shape: Sequence[int], patch_size: Sequence[int]) -> list[tuple[int, int]]:
    """Returns how many voxels an image lacks to a patch, before and after it along each axis; the odd one after."""
    least = (*shape[: len(shape) - len(patch_size)], *patch_size)
    missing = [max(0, low - size) for low, size in zip(least, shape, strict=True)]
    return [(count // 2, count - count // 2) for count in missing]


def gaussian_bump(patch_size: Sequence[int], sigma: float = SIGMA) -> NDArray[np.float64]:
    """Returns a Gaussian around a patch's centre, of sum 1 but for what the patch cuts off; far away it is 0.

    The same numbers as SciPy's `gaussian_filter` of a single bright voxel, as the product of one profile per axis.

    Args:
        patch_size: any number of axes.
        sigma: standard deviation in patches.
    """
    bump = np.ones(())
    for size in patch_size:
        deviation = size * sigma
        radius = int(_TRUNCATE * deviation + 0.5)
        offsets = np.arange(-radius, radius + 1)
        kernel = np.exp(-0.5 / (deviation * deviation) * offsets**2)
        kernel = kernel / kernel.sum()
        distance = np.arange(size) - size // 2
        profile = np.where(abs(distance) <= radius, kernel[np.clip(distance + radius, 0, 2 * radius)], 0)
        bump = bump[..., None] * profile
    return bump


@lru_cache(maxsize=4)
def gaussian(patch_size: tuple[int, ...], sigma: float = SIGMA) -> NDArray[np.float16]:
    """Returns nnU-Net's weights of a tile, of the patch's shape, at most 10 and nowhere 0; not to be written to."""
    bump = gaussian_bump(patch_size, sigma)
    bump /= bump.max() / _PEAK
    # PyTorch makes half precision out of single precision, which rounds twice.
    weights = bump.astype(np.float32).astype(np.float16)
    weights[weights == 0] = weights[weights > 0].min()
    weights.flags.writeable = False
    return weights


def mirrorings(axes: Sequence[int] | None) -> list[tuple[int, ...]]:
    """Returns the combinations of axes along which a patch is mirrored, in nnU-Net's order.

    Args:
        axes: of the patch, 0 the first spatial one; None for no mirroring.

    Example:
        >>> mirrorings([0, 1])
        [(), (0,), (1,), (0, 1)]
    """
    axes = axes or ()
    return [pick for count in range(len(axes) + 1) for pick in itertools.combinations(axes, count)]
