"""Transforms of the data-loading workers: level-set targets, box prompts, colours, and views of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import box_of_mask
from nnsam.geometry.signed_distance import BAND, level_set_target, relative_spacing
from nnsam.prompts.encoding import encode_box
from nnsam.prompts.sampling import BoxJitter
from nnsam.training.prompted_dataset import IGNORED, OTHER, TARGET

IGNORE_LABEL = 2


class AppendBoxPrompt(BasicTransform):
    """Appends the prompt channels to the image and turns the segmentation into the prompted object alone.

    Behind the spatial and intensity transforms, so that neither blurs the prompt, and in front of the downsampling for
    deep supervision. Where the prompt is dropped, or the object was lost in augmentation, the prompt is zero and the
    target is everything that is labelled: so the network also works in plain ``nnUNetv2_predict``.

    Args:
        encoding: see :func:`nnsam.prompts.encoding.encode_box`.
        jitter: changes the box.
        dropout: probability of dropping the prompt, 0..1.
    """

    def __init__(self, encoding: str, jitter: BoxJitter, dropout: float):
        super().__init__()
        self.encoding = encoding
        self.jitter = jitter
        self.dropout = dropout

    def apply(self, data_dict: dict, **params) -> dict:
        """Image (C, H, W) becomes (C + P, H, W); segmentation (1, H, W) becomes 0, 1, or 2 where ignored."""
        image, coded = data_dict["image"], data_dict["segmentation"]
        target = coded == TARGET
        box = None
        if np.random.uniform() >= self.dropout and target.any():
            box = self.jitter(box_of_mask(target[0].numpy()), coded.shape[1:], np.random)
        else:
            target |= coded == OTHER
        segmentation = target.to(coded.dtype)
        segmentation[coded == IGNORED] = IGNORE_LABEL
        prompt = torch.from_numpy(encode_box(box, coded.shape[1:], self.encoding))
        return {**data_dict, "image": torch.cat((image, prompt.to(image.dtype))), "segmentation": segmentation}


class RandomColours(BasicTransform):
    """Takes colours away, swaps them, or turns the image into its negative; the segmentation stays as it is.

    A network that has seen nine dermoscopic images knows a lesion by its shade of brown. It has to find borders that
    do not depend on it. Grey images, whose three channels are equal, only ever change by the negative.

    Args:
        grey: probability that all channels become their mean.
        swap: probability of a random order of the channels, otherwise.
        negative: probability that intensities, normalised to a mean of 0, change their sign.
    """

    def __init__(self, grey: float = 0.3, swap: float = 0.3, negative: float = 0.15):
        super().__init__()
        self.grey = grey
        self.swap = swap
        self.negative = negative

    def apply(self, data_dict: dict, **params) -> dict:
        """Changes the image (C, H, W)."""
        image: torch.Tensor = data_dict["image"]
        draw = np.random.uniform()
        if draw < self.grey:
            image = image.mean(dim=0, keepdim=True).expand_as(image)
        elif draw < self.grey + self.swap:
            image = image[torch.from_numpy(np.random.permutation(len(image)))]
        if np.random.uniform() < self.negative:
            image = -image
        return {**data_dict, "image": image.contiguous()}


class AppendSignedDistance(BasicTransform):
    """Appends one squashed signed distance map per foreground class (or region) to the list of segmentations.

    To be put behind ``DownsampleSegForDSTransform``, as the last transform: it reads the full-resolution segmentation,
    augmented and with regions built, and nnU-Net's loader copies every element of the list in its own type.

    The first element is either a label map (1, H, W) or, with regions, a bool map (R, H, W), plus one last channel that
    marks ignored pixels if the data set has an ignore label. Appended: float32 tensor (K, H, W) in [-1, 1], negative
    inside, NaN where the ignore label leaves it unknown (see :func:`nnsam.geometry.level_set_target`). Classes follow
    the order of `foreground_labels` or of the regions. What augmentation rotates into the patch from outside the image
    is background, as it is for the segmentation itself.

    Args:
        foreground_labels: Labels of the K classes; needed unless `has_regions`.
        has_regions: The segmentation holds region channels.
        ignore_label: The ignored value of a label map, or None. With regions: not None means that the last channel
            marks ignored pixels.
        band: Scale of the squashing in pixels; the same value belongs into the loss.
        spacing: In-plane (y, x) size of a pixel of the preprocessed images; None for square pixels.

    Example:
        >>> labels = torch.tensor([[[0, 0, 1, 1, 2]]], dtype=torch.int16)
        >>> out = AppendSignedDistance(foreground_labels=[1, 2])(segmentation=[labels])
        >>> out["segmentation"][1].sign().tolist()
        [[[1.0, 1.0, -1.0, -1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0, -1.0]]]
    """

    def __init__(
        self,
        foreground_labels: Sequence[int] | None = None,
        *,
        has_regions: bool = False,
        ignore_label: int | None = None,
        band: float = BAND,
        spacing: Sequence[float] | None = None,
    ):
        super().__init__()
        if not has_regions and not foreground_labels:
            raise InputError("The level-set target needs the data set's foreground labels, and there are none.")
        if not band > 0:
            raise InputError(f"The band of the level-set target is {band} pixels, but has to be positive.")
        relative_spacing(spacing)  # complain here, not in a worker
        self.foreground_labels = None if has_regions else tuple(int(label) for label in foreground_labels or ())
        self.has_regions = has_regions
        self.ignore_label = ignore_label
        self.band = float(band)
        self.spacing = None if spacing is None else tuple(float(value) for value in spacing)

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Returns `data_dict` with a new, longer list; the tensors in it are shared and unchanged."""
        segmentations = data_dict.get("segmentation")
        if not isinstance(segmentations, (list, tuple)) or not segmentations:
            found = "nothing" if segmentations is None else type(segmentations).__name__
            raise InputError(
                f"The level-set target is added to a list of segmentations, but {found} was found: "
                "train with deep supervision, and put AppendSignedDistance behind DownsampleSegForDSTransform."
            )
        masks, ignored = self._masks(segmentations[0].numpy())
        target = level_set_target(masks, ignored, band=self.band, spacing=self.spacing)
        return {**data_dict, "segmentation": [*segmentations, torch.from_numpy(target)]}

    def _masks(self, segmentation: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Splits a segmentation into class masks (K, H, W) and the ignored area (H, W), if there can be any."""
        if segmentation.ndim != 3:
            raise InputError(
                f"The level-set target is made for 2D patches (C, H, W), but the shape is {segmentation.shape}: "
                "use the configuration 2d."
            )
        if self.has_regions:
            regions = segmentation.astype(bool, copy=False)
            return (regions, None) if self.ignore_label is None else (regions[:-1], regions[-1])
        labels = segmentation[0]
        masks = np.stack([labels == label for label in self.foreground_labels or ()])
        return masks, None if self.ignore_label is None else labels == self.ignore_label
