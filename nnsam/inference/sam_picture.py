"""What the SAM branch of a network sees of a patch; the same numbers as :mod:`nnsam.networks.sam_branch`, in numpy.

Resizing is two matrix products, by one matrix per axis that is made once.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

# A patch with less contrast than this is not stretched to 0..1.
MINIMUM_RANGE = 1e-2


def robust_picture(patch: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Maps (B, C, H, W), C >= 1, to (B, 3, size, size), or (B, 1, size, size) for C = 1, in 0..1.

    See :meth:`nnsam.networks.sam_branch.SAMInput.picture`: the 0.5 and 99.5 percentiles become 0 and 1, channels become
    three, and the patch is resized bilinearly, with antialiasing where it shrinks.
    """
    image = _three_channels(_rescale(np.ascontiguousarray(patch, dtype=np.float32)))
    if image.shape[-2:] == (size, size):
        return image
    return _resize(image, _half_pixel_weights(image.shape[-2], size), _half_pixel_weights(image.shape[-1], size))


def legacy_picture(patch: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Maps (B, 1 or 3, H, W) to (B, 3, size, size) with aligned corners, as nnSAM's released code does.

    See :meth:`nnsam.networks.legacy.LegacyInput.picture`.

    Raises:
        InputError: another number of channels.
    """
    if patch.shape[1] not in (1, 3):
        raise InputError(f"nnSAM's released code takes images of 1 or 3 channels; found {patch.shape[1]}")
    image = np.asarray(patch, dtype=np.float32)
    resized = _resize(image, _corner_weights(image.shape[-2], size), _corner_weights(image.shape[-1], size))
    return np.repeat(resized, 3, axis=1) if patch.shape[1] == 1 else resized


def _rescale(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rescales (B, C, H, W) to 0..1; 3 channels together, others each on its own."""
    batch, channels = patch.shape[:2]
    groups = patch.reshape(batch, 1 if channels == 3 else channels, -1)
    count = groups.shape[-1]
    positions = round(0.005 * (count - 1)), round(0.995 * (count - 1))
    ordered = np.partition(groups, positions, axis=-1)
    low, high = (ordered[..., position, None] for position in positions)
    result = groups - low
    result /= np.maximum(high - low, np.float32(MINIMUM_RANGE))
    return np.clip(result, 0, 1, out=result).reshape(patch.shape)


def _three_channels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    channels = image.shape[1]
    if channels in (1, 3):
        return image
    if channels == 2:
        return np.concatenate([image, image.mean(axis=1, keepdims=True)], axis=1)
    return np.concatenate([part.mean(axis=1, keepdims=True) for part in np.array_split(image, 3, axis=1)], axis=1)


def _resize(image: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    # The smaller intermediate result first.
    if rows.shape[0] * image.shape[-1] <= columns.shape[0] * image.shape[-2]:
        return np.matmul(np.matmul(rows, image), columns.T)
    return np.matmul(rows, np.matmul(image, columns.T))


@lru_cache(maxsize=16)
def _half_pixel_weights(size: int, target: int) -> NDArray[np.float32]:
    """The share of each of `size` pixels in each of `target`, (target, size): a triangle as wide as a target's pixel.

    Single precision throughout, with PyTorch's order of operations, since positions round to 1e-5 of a pixel.
    """
    scale = np.float32(size) / np.float32(target)
    width = max(scale, np.float32(1))
    centres = scale * (np.arange(target, dtype=np.float32) + np.float32(0.5))
    first = np.maximum((centres - width + np.float32(0.5)).astype(np.int64), 0)
    last = np.minimum((centres + width + np.float32(0.5)).astype(np.int64), size)
    weights = np.zeros((target, size), dtype=np.float32)
    for row, (centre, start, stop) in enumerate(zip(centres, first, last, strict=True)):
        offsets = (np.arange(stop - start, dtype=np.float32) + (np.float32(start) - centre) + np.float32(0.5)) / width
        share = np.maximum(1 - np.abs(offsets), 0)
        weights[row, start:stop] = share / share.sum()
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=16)
def _corner_weights(size: int, target: int) -> NDArray[np.float32]:
    """The same where the centres of the corner pixels fall on each other."""
    scale = np.float32(size - 1) / np.float32(target - 1)
    positions = scale * np.arange(target, dtype=np.float32)
    lower = np.minimum(positions.astype(np.int64), size - 1)
    upper = np.minimum(lower + 1, size - 1)
    share = positions - lower.astype(np.float32)
    weights = np.zeros((target, size), dtype=np.float32)
    rows = np.arange(target)
    weights[rows, lower] = 1 - share
    weights[rows, upper] += share
    weights.flags.writeable = False
    return weights
