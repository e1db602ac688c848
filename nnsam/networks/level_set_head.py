"""Regression head for level sets, beside the segmentation head."""

import torch
from torch import Tensor, nn


class LevelSetHead(nn.Module):
    """Estimates one squashed signed distance per foreground class: (B, F, H, W) features -> (B, K, H, W), unbounded.

    Negative inside, zero on the boundary, tanh(distance / band) as in the target. It reads the decoder's last features,
    as nnU-Net's segmentation layer does (dual-head decoder, nnSAM, arXiv 2309.16967v3), and is used in training only.
    Computed in float32 also under autocast: differences of neighbouring values make the curvature.

    There is no tanh at its end, and it starts at 1, the target's value far from any structure. Nearly all pixels are
    far: with nnU-Net's SGD they drive a tanh into saturation within some 100 steps, where no gradient is left and the
    output stays 1 for good.

    Attributes:
        skip: number of leading outputs that are not returned (1 where the first class is the background).
    """

    skip = 0

    def __init__(self, features: int, classes: int):
        super().__init__()
        # The name says to nnU-Net's -pretrained_weights that this is an output layer, whose size follows the classes.
        self.seg_layers = nn.Conv2d(features, classes, kernel_size=1)
        nn.init.normal_(self.seg_layers.weight, std=0.01)
        nn.init.constant_(self.seg_layers.get_parameter("bias"), 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, F, H, W) to (B, K - skip, H, W), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return self.seg_layers(features.float())[:, self.skip :]
