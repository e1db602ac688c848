"""From the network's logits back to the image: voxel size, cropped margins and axes, as nnU-Net's export does it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.runtime.cropping import box_slices
from nnsam.runtime.labels import label_type, to_labels
from nnsam.runtime.labels import to_probabilities as turn_into_probabilities
from nnsam.runtime.preprocessing import Prepared, model_spacing
from nnsam.runtime.resampling import Resampling


def to_segmentation(
    logits: NDArray, prepared: Prepared, manifest: Mapping[str, Any], threads: int = 1
) -> NDArray[np.unsignedinteger]:
    """Returns the label map of an image.

    The outputs are resampled and compared one by one, so that they are never in memory together at the image's size.

    Args:
        logits: (O, z, y, x), as :func:`nnsam.runtime.sliding_window.predict_logits` returns them.
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
