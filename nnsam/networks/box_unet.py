"""The box-prompt network: nnU-Net's residual-encoder U-Net with prompt channels beside the image.

Source: Stock et al., "Segment Anything in Medical Images with nnUNet", sections 2.1 and 2.2. The paper gives 71.81 M
parameters and a patch of 224 x 288; the architecture below has 71,817,450 for three image channels and one prompt
channel.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from nnsam.errors import InputError
from nnsam.networks.fused_unet import FusedUNet, build_unet
from nnsam.networks.sam_branch import SAMBranch
from nnsam.prompts.encoding import ENCODINGS, check_encoding

# name -> (features per stage, residual blocks per stage, patch size)
MODELS: Mapping[str, tuple[Sequence[int], Sequence[int], tuple[int, int]]] = MappingProxyType(
    {
        "full": ((32, 64, 128, 256, 512, 512), (1, 3, 4, 6, 6, 6), (224, 288)),
        "small": ((16, 32, 64, 128, 192), (1, 2, 2, 2, 2), (128, 160)),
    }
)
# Background and object.
OUTPUTS = 2


def box_architecture(model: str = "full") -> dict[str, Any]:
    """Returns the `architecture` entry of nnU-Net's plans for a model of `MODELS`.

    Raises:
        InputError: unknown model.
    """
    if model not in MODELS:
        raise InputError(f"the box model {model!r} is unknown; expected {' or '.join(MODELS)}")
    features, blocks, _ = MODELS[model]
    stages = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3]] * stages,
            "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
            "n_blocks_per_stage": list(blocks),
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


class BoxUNet(FusedUNet):
    """U-Net on image and prompt channels, with or without the frozen SAM branch.

    Forward: (B, C + P, H, W), or (B, C, H, W) without a prompt, which is the same as P channels of zeros, so that
    nnU-Net's own prediction works. Returns as :class:`FusedUNet` logits for background and object, (B, 2, H, W), or a
    list of them under deep supervision. The SAM branch sees the image channels only.

    Args:
        unet: nnU-Net's network for C + P input channels.
        image_channels: C.
        prompt: name of the prompt encoding, which gives P.
        sam: the frozen branch, or None.
    """

    def __init__(self, unet: nn.Module, image_channels: int, prompt: str = "binary", sam: SAMBranch | None = None):
        super().__init__(unet, sam)
        self.image_channels = image_channels
        self.prompt_channels = ENCODINGS[check_encoding(prompt)]

    def forward(self, patch: Tensor) -> Tensor | list[Tensor]:
        """Segments; see the class."""
        missing = self.image_channels + self.prompt_channels - patch.shape[1]
        if missing == self.prompt_channels:
            patch = torch.cat((patch, patch.new_zeros(patch.shape[0], missing, *patch.shape[2:])), dim=1)
        elif missing:
            raise InputError(
                f"the box network got {patch.shape[1]} channels; expected {self.image_channels} image channels, "
                f"with or without {self.prompt_channels} of the prompt"
            )
        return super().forward(patch)

    def sam_input(self, patch: Tensor) -> Tensor:
        """Returns the image channels."""
        return patch[:, : self.image_channels]


def build_box_unet(
    model: str = "full",
    *,
    image_channels: int = 3,
    prompt: str = "binary",
    sam: SAMBranch | None = None,
    deep_supervision: bool = False,
) -> BoxUNet:
    """Builds a box-prompt network with fresh weights.

    Args:
        model: "full", 71,817,450 parameters with the defaults (Stock et al.), or "small".
        image_channels: 3 for RGB, 1 for grey.
        prompt: see :func:`nnsam.prompts.encoding.encode_box`.
        sam: the frozen branch of the hybrid network, or None.
        deep_supervision: return a list of outputs, for training.

    Raises:
        InputError: unknown model or prompt encoding.

    Example:
        >>> sum(parameter.numel() for parameter in build_box_unet("full").parameters())
        71817450
    """
    channels = image_channels + ENCODINGS[check_encoding(prompt)]
    return BoxUNet(
        build_unet(box_architecture(model), channels, OUTPUTS, deep_supervision), image_channels, prompt, sam
    )
