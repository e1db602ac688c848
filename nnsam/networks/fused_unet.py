"""nnU-Net's U-Net with a frozen SAM branch fused at the bottleneck and a level-set head."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nnsam.networks.fusion import BottleneckFusion
from nnsam.networks.level_set_head import LevelSetHead
from nnsam.networks.sam_branch import SAMBranch
from nnsam.networks.segmentation_network import SegmentationNetwork


class FusedUNet(SegmentationNetwork):
    """Wraps a U-Net of dynamic_network_architectures (plain or residual encoder, 2D).

    ``encoder`` and ``decoder`` are the U-Net's own modules under their own names, hence the keys of an nnU-Net
    checkpoint are a subset of this network's.

    Forward, with n the number of resolution stages:

    - ``decoder.deep_supervision`` on (training): a list of n - 1 logits, (B, C, H, W) first, then halved step by step,
      and, with a level-set head, (B, K, H, W) estimates of squashed signed distances as the last element;
    - off (prediction): the logits (B, C, H, W) alone. The level-set head is not computed.

    Args:
        unet: has `encoder` (returns skips, the last one is the bottleneck) and `decoder`.
        sam: the frozen branch, or None for a network without SAM.
        level_sets: number of level sets (foreground classes or regions); 0 builds no head.
    """

    # nn.Module hides the types of its submodules.
    encoder: Any
    decoder: Any
    fusion: Any

    def __init__(self, unet: nn.Module, sam: SAMBranch | None = None, level_sets: int = 0):
        super().__init__()
        self.encoder = unet.encoder
        self.decoder = unet.decoder
        self.sam = sam
        self.fusion = self.build_fusion() if sam is not None else None
        features = self.decoder.seg_layers[-1].in_channels
        self.level_set_head = LevelSetHead(features, level_sets) if level_sets else None

    def convolutional_parts(self) -> Iterable[nn.Module]:
        """The U-Net."""
        return self.encoder, self.decoder

    def build_fusion(self) -> nn.Module:
        """Returns the module that joins bottleneck and embedding."""
        return BottleneckFusion(self.encoder.output_channels[-1])

    def fuse(self, skips: list[Tensor], embedding: Tensor) -> list[Tensor]:
        """Returns the skips with the embedding fused into the deepest one."""
        return [*skips[:-1], self.fusion(skips[-1], embedding)]

    def sam_input(self, patch: Tensor) -> Tensor:
        """Returns the channels that the SAM branch looks at: all of them."""
        return patch

    def forward(self, patch: Tensor) -> Tensor | list[Tensor]:
        """Segments (B, C, H, W); see the class for what is returned when."""
        self.refuse_nonfinite(patch)
        with self.autocast(patch):
            embedding = self.sam(self.sam_input(patch)) if self.sam is not None else None
            skips = list(self.encoder(patch))
            if embedding is not None:
                skips = self.fuse(skips, embedding)
            logits, features = self._decode(skips)
        if self.cpu_autocast and patch.device.type == "cpu":
            logits = [output.float() for output in logits]
        if not self.decoder.deep_supervision:
            return logits[0]
        if self.level_set_head is not None:
            logits.append(self.level_set_head(features))
        return logits

    def _decode(self, skips: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Runs nnU-Net's decoder; returns its logits, finest first, and its last features.

        UNetDecoder.forward keeps the features to itself; its steps are repeated here with its own modules.
        """
        decoder = self.decoder
        logits, x, last = [], skips[-1], len(decoder.stages) - 1
        for index, (upsample, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
            x = stage(torch.cat((upsample(x), skips[-(index + 2)]), dim=1))
            if decoder.deep_supervision:
                logits.append(decoder.seg_layers[index](x))
            elif index == last:
                logits.append(decoder.seg_layers[-1](x))
        return logits[::-1], x
