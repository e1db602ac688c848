"""Turns nnU-Net's normalised patches into what SAM's image encoder was trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsam.errors import InputError
from nnsam.networks.mobile_sam import SIZE_MULTIPLE

# SAM's pixel statistics, RGB 0..255 (Kirillov et al., "Segment Anything", arXiv 2304.02643, official code).
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SAMInput(nn.Module):
    """Patch of any intensity scale and channel count -> SAM-normalised (B, 3, size, size).

    1. Robust rescale to 0..1, per image: the 0.5 and 99.5 percentiles go to 0 and 1, values beyond are clipped. One
       channel, or each of 2 or more than 3 channels, on its own; 3 channels together, so that colours keep their hue.
       A patch whose percentiles lie closer than `minimum_range` (a flat one) is not stretched to full contrast.
    2. Three channels: 1 is repeated; 2 become (a, b, mean of a and b); 3 are RGB; more are cut into three groups of
       neighbours (the first groups take the remainder), each averaged.
    3. Resize to the square that the encoder gets, as nnSAM does (section 2.3 of arXiv 2309.16967v1), bilinear, with
       anti-aliasing where it shrinks.
    4. Times 255, minus SAM's mean, divided by SAM's standard deviation.

    Args:
        size: side of the output, a multiple of 32; the paper's is 1024.
    """

    minimum_range = 1e-2
    mean: Tensor
    std: Tensor

    def __init__(self, size: int = 1024):
        super().__init__()
        if size < SIZE_MULTIPLE or size % SIZE_MULTIPLE:
            raise InputError(f"the SAM input size is {size}; expected a positive multiple of {SIZE_MULTIPLE}")
        self.size = size
        # Not persistent: constants of SAM, no weights of a model.
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, patch: Tensor) -> Tensor:
        """Maps (B, C, H, W), C >= 1, to (B, 3, size, size) in float32."""
        return self.normalize(self.picture(patch))

    def picture(self, patch: Tensor) -> Tensor:
        """Does steps 1 to 3: (B, C, H, W) to (B, 3, size, size), or (B, 1, size, size) for C = 1, in 0..1."""
        image = to_three_channels(rescale_robust(patch.detach().float(), self.minimum_range))
        return resize(image, (self.size, self.size))

    def normalize(self, picture: Tensor) -> Tensor:
        """Does step 4: (B, 1 or 3, size, size) in 0..1 to (B, 3, size, size), SAM-normalised."""
        if picture.shape[1] == 1:
            # Not expand: OpenVINO 2026.4 reads beyond the end of a picture that it broadcasts to three channels, which
            # mostly goes well and now and then ends the process.
            picture = torch.cat((picture, picture, picture), dim=1)
        return (picture - self.mean) / self.std


def rescale_robust(patch: Tensor, minimum_range: float = 1e-2) -> Tensor:
    """Rescales (B, C, H, W) to 0..1 by the 0.5 and 99.5 percentiles; 3 channels share theirs."""
    batch, channels = patch.shape[:2]
    groups = patch.reshape(batch, 1 if channels == 3 else channels, -1)
    count = groups.shape[-1]
    # kthvalue selects in linear time and has no limit on the size, unlike quantile.
    low = groups.kthvalue(1 + round(0.005 * (count - 1)), dim=-1, keepdim=True).values
    high = groups.kthvalue(1 + round(0.995 * (count - 1)), dim=-1, keepdim=True).values
    return ((groups - low) / (high - low).clamp(min=minimum_range)).clamp(0, 1).reshape(patch.shape)


def to_three_channels(image: Tensor) -> Tensor:
    """Maps (B, C, H, W) to (B, 3, H, W), or (B, 1, H, W) for C = 1, to be expanded where it costs nothing."""
    channels = image.shape[1]
    if channels in (1, 3):
        return image
    if channels == 2:
        return torch.cat((image, image.mean(dim=1, keepdim=True)), dim=1)
    return torch.cat([group.mean(dim=1, keepdim=True) for group in image.tensor_split(3, dim=1)], dim=1)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (B, C, H, W) bilinearly, anti-aliased along axes that shrink; exact identity where sizes agree."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    shrinks = image.shape[-2] > size[0] or image.shape[-1] > size[1]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=shrinks)
