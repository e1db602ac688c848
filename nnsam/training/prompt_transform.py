"""The box prompt and its target, made in nnU-Net's data-loading workers after all other augmentation."""

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnsam.geometry.boxes import box_of_mask
from nnsam.prompts.encoding import encode_box
from nnsam.prompts.jitter import BoxJitter
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
