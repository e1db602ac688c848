"""The network of nnSAM's released code, reproduced for comparison (Kent0n-Li/nnSAM, commit 0dcb5d7).

It differs from the paper and from this package's default in four ways: the embedding is concatenated to the fourth
skip, whatever the depth of the network; the encoder sees nnU-Net's normalised patch as it is, not SAM's normalisation;
all convolutions are initialised anew after the encoder's weights were loaded, also the frozen ones; BatchNorm
layers of the encoder are left in training mode.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnsam.errors import InputError
from nnsam.networks.fused_unet import FusedUNet
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS, MobileSAMEncoder
from nnsam.networks.sam_branch import SAMBranch

# The fourth skip, by its index in the list of skips.
SKIP = 3


class LegacyInput(nn.Module):
    """(B, 1 or 3, H, W) -> (B, 3, size, size): repeats one channel, resizes with aligned corners, nothing else."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, patch: Tensor) -> Tensor:
        """Resizes the patch; its intensities stay nnU-Net's."""
        return self.normalize(self.picture(patch))

    def normalize(self, picture: Tensor) -> Tensor:
        """Returns the picture as it is."""
        return picture

    def picture(self, patch: Tensor) -> Tensor:
        """Resizes the patch."""
        if patch.shape[1] not in (1, 3):
            raise InputError(f"nnSAM's released code takes images of 1 or 3 channels; found {patch.shape[1]}")
        patch = patch.detach().float().expand(-1, 3, -1, -1)
        return F.interpolate(patch, size=(self.size, self.size), mode="bilinear", align_corners=True)


class LegacyMobileSAMEncoder(MobileSAMEncoder):
    """The encoder whose BatchNorm statistics drift in training."""

    def train(self, mode: bool = True) -> "LegacyMobileSAMEncoder":
        """Follows `mode`, as the released code does."""
        return nn.Module.train(self, mode)


class LegacySAMBranch(SAMBranch):
    """The branch whose encoder is damaged on loading."""

    may_use_runtime = False  # in training its BatchNorm layers normalise by the batch and keep statistics

    def __init__(self, encoder: MobileSAMEncoder, *args, **kwargs):
        legacy = LegacyMobileSAMEncoder()
        legacy.load_state_dict(encoder.state_dict())
        super().__init__(legacy, *args, **kwargs)

    def build_input(self, size: int) -> Any:
        """Returns the resizing without SAM's normalisation."""
        return LegacyInput(size)

    def reinitialize_convolutions(self, seed: int = 0) -> None:
        """Overwrites every convolution with He initialisation, as `network.apply(InitWeights_He(1e-2))` does.

        The values depend on `seed` alone: the processes of a distributed training do not exchange frozen weights.
        """
        encoder = copy.deepcopy(self.encoder).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder.apply(InitWeights_He(1e-2))
        self.encoder.load_state_dict(encoder.state_dict())


class LegacyFusedUNet(FusedUNet):
    """Concatenates the embedding to the fourth skip; the decoder's stage there is made wider.

    Raises:
        InputError: the network has fewer than 5 stages, where the released code fails, too.
    """

    def build_fusion(self) -> nn.Module:
        """Widens the decoder's stage; concatenation itself has no weights."""
        encoder, stages = self.encoder, self.decoder.stages
        index = len(stages) - 1 - SKIP
        if index < 0:
            raise InputError(
                f"nnSAM's released code needs a network of at least {SKIP + 2} stages, and these plans have "
                f"{len(stages) + 1}; use nnSAMTrainer, which fuses at any depth"
            )
        features = encoder.output_channels[SKIP]
        stage = StackedConvBlocks(
            len(stages[index].convs),
            encoder.conv_op,
            2 * features + EMBEDDING_CHANNELS,
            features,
            encoder.kernel_sizes[SKIP],
            1,
            encoder.conv_bias,
            encoder.norm_op,
            encoder.norm_op_kwargs,
            encoder.dropout_op,
            encoder.dropout_op_kwargs,
            encoder.nonlin,
            encoder.nonlin_kwargs,
        )
        stages[index] = stage.apply(InitWeights_He(1e-2))
        return nn.Identity()

    def fuse(self, skips: list[Tensor], embedding: Tensor) -> list[Tensor]:
        """Returns the skips with the embedding concatenated to the fourth one."""
        size = (skips[SKIP].shape[-2], skips[SKIP].shape[-1])
        embedding = F.interpolate(embedding.float(), size=size, mode="bilinear", align_corners=True)
        skip = torch.cat((skips[SKIP], embedding.to(skips[SKIP].dtype)), dim=1)
        return [*skips[:SKIP], skip, *skips[SKIP + 1 :]]
