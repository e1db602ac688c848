"""Colour augmentation for training sets that mix a few colour pictures with many grey ones."""

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform


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
