"""Inference as published: the surroundings of a box at the image's resolution, by sliding window.

Source: Stock et al., sections 2.4 and 2.5. The region extends by half a patch around the box; nnU-Net's sliding window
(half a patch per step, Gaussian weights, Isensee et al. 2021) runs over it; what lies outside the box is removed. Where
both the model's and the image's pixel size are known and differ, the region is resampled by their ratio first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.geometry.boxes import resize_boxes, shift, slices, to_pixels
from nnsam.inference.box.image import resize
from nnsam.inference.box.network import BoxNetwork
from nnsam.inference.box.prediction import Request
from nnsam.inference.tiles import gaussian_bump, tile_steps
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.encoding import encode_box

# Probabilities are averaged as logits, like nnU-Net's; this keeps those of 0 and 1 finite.
_EPSILON = 1e-6


def faithful_passes(box: ArrayLike, image_shape: Sequence[int], patch_size: Sequence[int]) -> int:
    """Returns how many patches the published method computes for one box.

    Args:
        box: (y0, x0, y1, x1), half-open, whole pixels.
        image_shape: (H, W) at the resolution at which the network sees the image.
        patch_size: (h, w).

    Example:
        >>> faithful_passes([0, 0, 3024, 4032], (3024, 4032), (224, 288))
        702
    """
    rows, columns = tile_starts(box, image_shape, patch_size)
    return len(rows) * len(columns)


def tile_starts(box: ArrayLike, image_shape: Sequence[int], patch_size: Sequence[int]) -> tuple[list[int], list[int]]:
    """Returns the first rows and the first columns of the tiles.

    A region that the image's border cuts to less than a patch is moved into the image, and reaches beyond it on both
    sides only where the whole image is smaller than a patch.
    """
    corners = [int(value) for value in np.asarray(box)]
    starts = []
    for axis in (0, 1):
        patch, size = int(patch_size[axis]), int(image_shape[axis])
        low, high = max(0, corners[axis] - patch // 2), min(size, corners[axis + 2] + patch // 2)
        if high - low < patch:
            low = max(0, min(low, size - patch)) if size >= patch else -((patch - size) // 2)
            high = low + patch
        starts.append([low + step for step in tile_steps(high - low, patch)])
    return starts[0], starts[1]


@lru_cache(maxsize=4)
def tile_weights(patch_size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns nnU-Net's Gaussian weights of a tile, (h, w), at most 1 and nowhere 0; not to be written to."""
    bump = gaussian_bump(patch_size)
    weights = (bump / bump.max()).astype(np.float32)
    weights[weights == 0] = weights[weights > 0].min()
    weights.flags.writeable = False
    return weights


def faithful_probabilities(network: BoxNetwork, requests: Sequence[Request]) -> Iterator[NDArray[np.float32]]:
    """Yields for each request the object's probability in its box, of the box's shape."""
    tilings = [_Tiling.of(request, network.spec) for request in requests]
    probabilities = network(tiling.patch(start, network.spec) for tiling in tilings for start in tiling.starts)
    for tiling in tilings:
        yield tiling.merge(next(probabilities) for _ in tiling.starts)


@dataclass(frozen=True)
class _Tiling:
    """The tiles of one box.

    Attributes:
        request: the box in its plane.
        factors: (y, x), pixels that the network sees per pixel of the plane.
        box: the request's box in pixels that the network sees, with fractions.
        starts: upper left corners of the tiles, in the same pixels.
        patch_size: (h, w).
    """

    request: Request
    factors: NDArray[np.float64]
    box: NDArray[np.float64]
    starts: list[tuple[int, int]]
    patch_size: tuple[int, int]

    @classmethod
    def of(cls, request: Request, spec: BoxModelSpec) -> "_Tiling":
        shape = np.array(request.plane.shape)
        factors = np.ones(2)
        if request.plane.spacing is not None and spec.spacing is not None:
            # The image has a whole number of pixels after resampling, too, as in nnU-Net.
            factors = np.maximum(1, np.round(shape * request.plane.spacing / spec.spacing)) / shape
        box = resize_boxes(request.box, factors)
        rows, columns = tile_starts(to_pixels(box), [int(side) for side in np.round(shape * factors)], spec.patch_size)
        return cls(request, factors, box, [(row, column) for row in rows for column in columns], spec.patch_size)

    def patch(self, start: tuple[int, int], spec: BoxModelSpec) -> NDArray[np.float32]:
        """Image and prompt channels of one tile, (C + P, h, w)."""
        region = np.array([*start, start[0] + self.patch_size[0], start[1] + self.patch_size[1]])
        image = self.request.plane.patch(resize_boxes(region, 1 / self.factors), self.patch_size)
        prompt = encode_box(shift(to_pixels(self.box), -np.array(start)), self.patch_size, spec.prompt)
        return np.concatenate([image, prompt])

    def merge(self, probabilities: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Averages the tiles' results, in the order of `starts`; returns the box, at the plane's resolution."""
        pixels = to_pixels(self.box)
        size = pixels[2:] - pixels[:2]
        total, weight = np.zeros((2, *size), dtype=np.float32)
        weights = tile_weights(self.patch_size)
        for start, probability in zip(self.starts, probabilities, strict=True):
            low = np.array(start) - pixels[:2]  # the tile in the box
            high = low + self.patch_size
            here = slices([*np.clip(low, 0, size), *np.clip(high, 0, size)])
            there = slices([*np.clip(-low, 0, self.patch_size), *np.clip(size - low, 0, self.patch_size)])
            clipped = np.clip(probability[there], _EPSILON, 1 - _EPSILON)
            total[here] += weights[there] * np.log(clipped / (1 - clipped))
            weight[here] += weights[there]
        merged = 1 / (1 + np.exp(-total / weight))
        x0, y0, x1, y1 = (float(value) for value in shift(self.box, -pixels[:2])[[1, 0, 3, 2]])
        return resize(merged, self.request.size, (x0, y0, x1, y1))
