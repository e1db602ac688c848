"""Fusion of the SAM embedding with the bottleneck of an nnU-Net encoder."""

import torch
from torch import Tensor, nn

from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS
from nnsam.networks.sam_input import resize


class BottleneckFusion(nn.Module):
    """Concatenates bottleneck and SAM embedding and projects back to the bottleneck's width (1x1 convolution).

    The projection starts as [identity, 0]: at step 0 the network computes exactly what nnU-Net computes, and the
    decoder stays nnU-Net's own, so that an nnU-Net checkpoint can initialise it. The weights of the embedding start at
    zero but get a gradient from the first step on.

    Source: concatenation at the deepest level follows Fig. 1 of nnSAM (arXiv 2309.16967v1); the projection is ours.

    Args:
        channels: width of the bottleneck.
        embedding_channels: width of the embedding.
    """

    def __init__(self, channels: int, embedding_channels: int = EMBEDDING_CHANNELS):
        super().__init__()
        self.project = nn.Conv2d(channels + embedding_channels, channels, kernel_size=1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the projection to [identity, 0]."""
        channels = self.project.out_channels
        with torch.no_grad():
            self.project.weight.zero_()
            self.project.weight[:, :channels, 0, 0] = torch.eye(channels)

    def forward(self, bottleneck: Tensor, embedding: Tensor) -> Tensor:
        """Fuses (B, C, h, w) with (B, 256, H', W') to (B, C, h, w); the embedding is resized to h x w."""
        embedding = resize(embedding.float(), (bottleneck.shape[-2], bottleneck.shape[-1])).to(bottleneck.dtype)
        return self.project(torch.cat((bottleneck, embedding), dim=1))
