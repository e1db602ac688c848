"""Patches of preprocessed images as nnU-Net's sliding window cuts them: at their own scale, padded with zeros."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

# A patch that shows one value only tells nothing of what the network will see; this often another one is tried.
_TRIES = 10


def random_crops(
    data: NDArray,
    patch_size: Sequence[int],
    count: int,
    rng: np.random.Generator,
    foreground: Callable[[], NDArray[np.integer]] | None = None,
) -> list[NDArray[np.float32]]:
    """Cuts patches: the centre of the image first, then random places, every second one around an object.

    Args:
        data: (C, z, y, x), preprocessed, or anything that is indexed like it, such as a compressed file.
        patch_size: (h, w), or (d, h, w).
        count: number of patches.
        rng: chooses the places.
        foreground: returns the places of objects, (N, 3); None where they are unknown.

    Returns:
        (1, C, *patch_size) each.
    """
    size = (1,) * (3 - len(patch_size)) + tuple(patch_size)
    shape = tuple(data.shape[1:])
    objects = foreground() if foreground is not None and count > 1 else np.empty((0, 3), dtype=int)
    crops = []
    for index in range(count):
        centre: list[int | None] = [side // 2 for side in shape] if index == 0 else [None] * 3
        if index % 2 and len(objects):
            centre = [int(place) for place in objects[rng.integers(len(objects))]]
        for _ in range(_TRIES):
            start = [_start(*axis, rng) for axis in zip(shape, size, centre, strict=True)]
            crop = _cut(data, start, size)
            if crop.min() < crop.max():
                break
            centre = [None] * 3
        crops.append(crop.reshape(1, len(crop), *patch_size))
    return crops


def _start(side: int, patch: int, centre: int | None, rng: np.random.Generator) -> int:
    if side <= patch:  # padded on both sides, the odd pixel at the end
        return -((patch - side) // 2)
    if centre is None:
        return int(rng.integers(side - patch + 1))
    return int(np.clip(centre - patch // 2, 0, side - patch))


def _cut(data: NDArray, start: Sequence[int], size: Sequence[int]) -> NDArray[np.float32]:
    inside, target = [slice(None)], [slice(None)]
    for low, length, side in zip(start, size, data.shape[1:], strict=True):
        first, last = max(0, low), min(side, low + length)
        inside.append(slice(first, last))
        target.append(slice(first - low, last - low))
    crop = np.zeros((data.shape[0], *size), dtype=np.float32)
    crop[tuple(target)] = data[tuple(inside)]
    return crop
