"""Networks of other libraries that nnSAM's paper compares with, as nnU-Net's trainer needs them.

None of them is exactly the paper's: see the note of each class. Their library, MONAI, is imported when one is built.
"""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from nnsam.errors import InputError, SetupError
from nnsam.networks.fused_unet import SegmentationNetwork
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS
from nnsam.networks.sam_branch import SAMBranch
from nnsam.support.installation import how_to_install


class BaselineNetwork(SegmentationNetwork):
    """A network without SAM branch, level sets and deep supervision: (B, C, H, W) -> logits (B, O, H, W).

    Args:
        channels: of the image.
        outputs: number of logits.
        patch_size: (H, W).

    Raises:
        InputError: the patch does not fit the network.
        SetupError: MONAI is not installed.
    """

    stride = 1  # a patch's sides have to be multiples of it

    def __init__(self, channels: int, outputs: int, patch_size: tuple[int, int]):
        super().__init__()
        self.sam = self.level_set_head = None
        check_monai()
        check_patch(type(self).__name__, patch_size, self.stride)
        self.network = self.build(channels, outputs, patch_size)

    def build(self, channels: int, outputs: int, patch_size: tuple[int, int]) -> nn.Module:
        """Returns the other library's network."""
        raise NotImplementedError

    def convolutional_parts(self) -> Iterable[nn.Module]:
        """The whole network."""
        return (self.network,)

    def forward(self, patch: Tensor) -> Tensor:
        """Segments a patch."""
        self.refuse_nonfinite(patch)
        with self.autocast(patch):
            return self.network(patch).float()


class BasicUNet(BaselineNetwork):
    """MONAI's BasicUNet: five stages of 32 to 256 features, instance norm. The paper's U-Net is a public code's."""

    stride = 16

    def build(self, channels: int, outputs: int, patch_size: tuple[int, int]) -> nn.Module:
        """Returns the U-Net."""
        from monai.networks.nets import BasicUNet

        return BasicUNet(spatial_dims=2, in_channels=channels, out_channels=outputs)


class SwinUNETR(BaselineNetwork):
    """MONAI's SwinUNETR in 2D: a Swin encoder, from scratch, and a convolutional decoder.

    Swin-Unet, the paper's, has a decoder of Swin blocks and an encoder that was trained on ImageNet.
    """

    stride = 32

    def build(self, channels: int, outputs: int, patch_size: tuple[int, int]) -> nn.Module:
        """Returns the network, with MONAI's default of 24 features."""
        from monai.networks.nets import SwinUNETR

        return SwinUNETR(in_channels=channels, out_channels=outputs, feature_size=24, spatial_dims=2)


class UNETR(BaselineNetwork):
    """MONAI's UNETR in 2D: a ViT-B/16 encoder, from scratch, and a convolutional decoder.

    TransUNet, the paper's, has a ResNet-50 in front of the ViT, both trained on ImageNet.
    """

    stride = 16

    def build(self, channels: int, outputs: int, patch_size: tuple[int, int]) -> nn.Module:
        """Returns the network, which is for patches of this size only."""
        from monai.networks.nets import UNETR

        return UNETR(in_channels=channels, out_channels=outputs, img_size=patch_size, spatial_dims=2)


class AutoSAM(SegmentationNetwork):
    """A frozen MobileSAM encoder with a convolutional decoder that sees nothing but the embedding.

    The paper's AutoSAM (Shaharabany et al., arXiv 2306.06370) trains an encoder that makes prompts for SAM's own mask
    decoder, with the encoder of SAM ViT-H. What is common to both is that all knowledge of the image comes from SAM.

    Args:
        branch: the frozen encoder.
        outputs: number of logits.
    """

    _WIDTHS = (128, 64)  # at 1/8 and 1/4 of the encoder's input

    def __init__(self, branch: SAMBranch, outputs: int):
        super().__init__()
        self.sam, self.level_set_head = branch, None
        layers: list[nn.Module] = []
        width = EMBEDDING_CHANNELS
        for narrower in self._WIDTHS:
            layers += [
                nn.ConvTranspose2d(width, narrower, 2, 2),
                nn.InstanceNorm2d(narrower, affine=True),
                nn.LeakyReLU(0.01),
                nn.Conv2d(narrower, narrower, 3, padding=1),
                nn.InstanceNorm2d(narrower, affine=True),
                nn.LeakyReLU(0.01),
            ]
            width = narrower
        self.head = nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))

    def convolutional_parts(self) -> Iterable[nn.Module]:
        """The decoder."""
        return (self.head,)

    def forward(self, patch: Tensor) -> Tensor:
        """Segments (B, C, H, W) to logits (B, O, H, W)."""
        self.refuse_nonfinite(patch)
        assert self.sam is not None
        with self.autocast(patch):
            logits = self.head(self.sam(patch))
        return F.interpolate(logits.float(), size=patch.shape[-2:], mode="bilinear")


def check_patch(name: str, patch_size: tuple[int, int], stride: int) -> None:
    """Raises InputError unless the sides of a patch are multiples of a network's stride."""
    if any(side % stride for side in patch_size):
        fitting = " x ".join(str(-(-side // stride) * stride) for side in patch_size)
        raise InputError(
            f"{name} needs patches whose sides are multiples of {stride}, and the plans have "
            f"{' x '.join(map(str, patch_size))}; plan with a patch of {fitting} (nnsam fewshot prepare --patch-size)"
        )


def check_monai() -> None:
    """Raises SetupError where MONAI is missing."""
    try:
        import monai.networks.nets  # noqa: F401
    except ImportError:
        raise SetupError(f"this network is MONAI's, which is not installed; {how_to_install('fewshot')}") from None
