"""From the network's logits back to the image: voxel size, cropped margins and axes, as nnU-Net's export does it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.inference.automatic.preprocessing import Prepared, box_slices, model_spacing
from nnsam.inference.automatic.resampling import Resampling

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


def turn_into_probabilities(logits: NDArray[np.float32], labels: Mapping[str, Any]) -> None:
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


def to_segmentation(
    logits: NDArray, prepared: Prepared, manifest: Mapping[str, Any], threads: int = 1
) -> NDArray[np.unsignedinteger]:
    """Returns the label map of an image.

    The outputs are resampled and compared one by one, so that they are never in memory together at the image's size.

    Args:
        logits: (O, z, y, x), as :func:`nnsam.inference.automatic.sliding_window.predict_logits` returns them.
        prepared: the image.
        manifest: of the bundle.
        threads: for resampling.

    Returns:
        Labels of the image's own shape and order of axes, 8 bits, or 16 for more than 254 labels. What was cropped
        is background.

    Raises:
        InputError: another number of outputs than labels.
    """
    labels = manifest["labels"]
    channels = _resampled(logits, prepared, manifest, threads)
    whole = np.zeros(prepared.shape_before_cropping, dtype=label_type(labels))
    to_labels(channels, labels, whole[box_slices(prepared.box)])
    return np.ascontiguousarray(whole.transpose(manifest["preprocessing"]["transpose_backward"]))


def to_probabilities(
    logits: NDArray, prepared: Prepared, manifest: Mapping[str, Any], threads: int = 1
) -> NDArray[np.float32]:
    """Returns the probabilities of all outputs.

    Args:
        logits: as for :func:`to_segmentation`.
        prepared: the image.
        manifest: of the bundle.
        threads: for resampling.

    Returns:
        (O, z, y, x) in the image's own shape and order of axes; with regions, one probability per region. What was
        cropped is certainly background.

    Raises:
        InputError: another number of outputs than labels.
    """
    labels = manifest["labels"]
    channels = _resampled(logits, prepared, manifest, threads)
    whole = np.zeros((len(logits), *prepared.shape_before_cropping), dtype=np.float32)
    if not labels["has_regions"]:
        whole[0] = 1
    z, y, x = box_slices(prepared.box)
    inside = whole[:, z, y, x]
    for target, channel in zip(inside, channels, strict=True):
        target[...] = channel
    turn_into_probabilities(inside, labels)
    backward = manifest["preprocessing"]["transpose_backward"]
    return whole.transpose([0, *(axis + 1 for axis in backward)])


def _resampled(
    logits: NDArray, prepared: Prepared, manifest: Mapping[str, Any], threads: int
) -> Iterator[NDArray[np.floating]]:
    """Yields each output at the voxel size of the image, cropped."""
    expected = manifest["labels"]["outputs"]
    if len(logits) != expected:
        raise InputError(
            f"the network has {len(logits)} outputs, and the bundle describes {expected}; export the model again"
        )
    settings = manifest["preprocessing"]
    resampling = Resampling.of(settings["resampling"]["probabilities"])
    spacing = model_spacing(settings, prepared.spacing)
    return resampling.channels(logits, prepared.shape_after_cropping, spacing, prepared.spacing, threads)
