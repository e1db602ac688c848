"""From logits to labels and probabilities, as nnU-Net's LabelManager does it, in blocks that stay in the cache."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_VOXELS = 2**18
# nnU-Net asks for a probability above 0.5 in single precision, and this is where rounding first takes it there.
REGION_THRESHOLD = np.float32(1.5 * 2**-24)


def label_type(labels: Mapping[str, Any]) -> np.dtype:
    """Returns the type of label maps: 8 bits for up to 254 labels, 16 bits for more.

    Args:
        labels: the manifest's section of this name.
    """
    return np.dtype(np.uint8 if len(labels["foreground"]) < 255 else np.uint16)


def to_labels(channels: Iterable[NDArray], labels: Mapping[str, Any], out: NDArray[np.integer]) -> None:
    """Writes the label map of logits.

    Args:
        channels: logits of one output after the other, (z, y, x), half or single precision, finite; read one by one,
            so that they need not be in memory together.
        labels: the manifest's section of this name.
        out: (z, y, x) of type :func:`label_type`, any memory layout; written to.
    """
    if labels["has_regions"]:
        _paint_regions(channels, labels["regions_class_order"], out)
    else:
        _take_greatest(channels, out)


def to_probabilities(logits: NDArray[np.float32], labels: Mapping[str, Any]) -> None:
    """Turns logits into probabilities in place: softmax over the outputs, or each output's own with regions.

    Args:
        logits: (O, z, y, x), any memory layout.
        labels: the manifest's section of this name.
    """
    for block in blocks(logits.shape[1:]):
        values = logits[:, block[0], block[1]]
        if labels["has_regions"]:
            with np.errstate(over="ignore"):  # exp(100) is infinite, and the probability 0
                values[...] = 1 / (1 + np.exp(-values))
        else:
            exponentials = np.exp(values - values.max(axis=0))
            np.divide(exponentials, exponentials.sum(axis=0), out=values)


def blocks(shape: Sequence[int], voxels: int = _BLOCK_VOXELS) -> Iterator[tuple[slice, slice]]:
    """Yields what cuts an image (z, y, x) into blocks of whole slices, or of whole rows where slices are large.

    Args:
        shape: (z, y, x).
        voxels: about as many as this in a block.
    """
    rows = max(1, min(shape[1], voxels // max(1, shape[2])))
    slices = max(1, voxels // max(1, rows * shape[2])) if rows == shape[1] else 1
    for z in range(0, shape[0], slices):
        for y in range(0, shape[1], rows):
            yield slice(z, z + slices), slice(y, y + rows)


def _take_greatest(channels: Iterable[NDArray], out: NDArray[np.integer]) -> None:
    """Writes the number of the channel with the greatest value; the first of equal ones."""
    # Halves are compared one by one, single precision many at a time.
    greatest = np.full(out.shape, -np.inf, dtype=np.float32)
    out[...] = 0
    for index, channel in enumerate(channels):
        for block in blocks(out.shape):
            values, best = channel[block].astype(np.float32), greatest[block]
            np.copyto(out[block], index, where=values > best)
            np.maximum(best, values, out=best)


def _paint_regions(channels: Iterable[NDArray], order: Sequence[int], out: NDArray[np.integer]) -> None:
    """Writes the label of each region where its probability exceeds one half; later regions cover earlier ones."""
    out[...] = 0
    for channel, label in zip(channels, order, strict=True):
        for block in blocks(out.shape):
            np.copyto(out[block], label, where=channel[block].astype(np.float32) > REGION_THRESHOLD)
