"""nnU-Net's U-Net with a frozen SAM branch fused at the bottleneck and a level-set head, built from nnU-Net's plans."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nnsam.errors import InputError
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS, MobileSAMEncoder
from nnsam.networks.sam_branch import SAMBranch, resize_tensor
from nnsam.nnunet.allowed import check_architecture


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
        embedding = resize_tensor(embedding.float(), (bottleneck.shape[-2], bottleneck.shape[-1])).to(bottleneck.dtype)
        return self.project(torch.cat((bottleneck, embedding), dim=1))


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


class SegmentationNetwork(nn.Module):
    """A network that this package's trainers can train.

    Attributes:
        cpu_autocast: run the trainable part in bfloat16 on the CPU; see :mod:`nnsam.training.acceleration`.
        sam: the frozen branch, or None.
        level_set_head: the head for level sets, or None.
    """

    cpu_autocast = False
    sam: SAMBranch | None
    level_set_head: LevelSetHead | None

    def convolutional_parts(self) -> Iterable[nn.Module]:
        """Trainable modules that run quicker channels last; none by default."""
        return ()

    def autocast(self, patch: Tensor) -> AbstractContextManager:
        """Returns the context for the trainable part."""
        if self.cpu_autocast and patch.device.type == "cpu":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        return nullcontext()

    def refuse_nonfinite(self, patch: Tensor) -> None:
        """Raises InputError where a patch to predict has NaN or infinite values."""
        # One NaN pixel makes a whole prediction background without a word. Training checks on the CPU, before the
        # transfer to the device (nnsam.training), and needs no synchronisation here.
        if self.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        if not torch.isfinite(patch).all():
            raise InputError(
                "an image contains NaN or infinite values (found after nnU-Net's normalisation), so nothing can be "
                "predicted; expected finite intensities: replace these values in the image file"
            )


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


def build_nnsam_unet(
    plans: Mapping[str, Any],
    encoder: MobileSAMEncoder | SAMBranch | None,
    *,
    configuration: str = "2d",
    input_channels: int,
    num_classes: int,
    level_sets: int | None = None,
    sam_size: int = 1024,
    deep_supervision: bool = True,
) -> FusedUNet:
    """Builds nnSAM's network for a 2D configuration of nnU-Net plans.

    Args:
        plans: content of nnU-Net's plans file (``nnUNetPlans.json``).
        encoder: frozen image encoder, or a whole SAM branch; None builds the network without SAM.
        configuration: name of a 2D configuration of the plans.
        input_channels: number of image channels.
        num_classes: number of segmentation outputs (classes with background, or regions).
        level_sets: number of level sets; by default num_classes - 1 (all classes but the background). 0: no head.
        sam_size: side of the image that the encoder gets, a multiple of 32.
        deep_supervision: return a list of outputs, see :class:`FusedUNet`.

    Returns:
        The network; nnU-Net's part is initialised as nnU-Net does, the fusion to the identity.

    Raises:
        InputError: the configuration is unknown or not 2D.
    """
    architecture = architecture_of(plans, configuration)
    unet = build_unet(architecture, input_channels, num_classes, deep_supervision)
    branch = encoder if encoder is None or isinstance(encoder, SAMBranch) else SAMBranch(encoder, sam_size)
    return FusedUNet(unet, branch, num_classes - 1 if level_sets is None else level_sets)


def architecture_of(plans: Mapping[str, Any], configuration: str) -> Mapping[str, Any]:
    """Returns the `architecture` entry of a configuration, which has to be 2D."""
    configurations = plans.get("configurations", {})
    if configuration not in configurations:
        raise InputError(
            f"the plans have no configuration {configuration!r}; "
            f"they have: {', '.join(sorted(configurations)) or 'none'}"
        )
    entry = configurations[configuration]
    while "architecture" not in entry and "inherits_from" in entry:
        entry = configurations[entry["inherits_from"]]
    if "architecture" not in entry:
        raise InputError(
            f"configuration {configuration!r} of the plans holds no architecture, as plans of older nnU-Net versions; "
            f"run nnUNetv2_plan_experiment again"
        )
    architecture = entry["architecture"]
    if not architecture["arch_kwargs"]["conv_op"].endswith("Conv2d"):
        raise InputError(
            f"configuration {configuration!r} is not 2D; the SAM encoder sees 2D images: use a 2d configuration"
        )
    return architecture


def build_unet(architecture: Mapping[str, Any], input_channels: int, num_classes: int, deep_supervision: bool):
    """Builds and initialises nnU-Net's own network, by nnU-Net's own function.

    Raises:
        InputError: the plans name classes that are not nnU-Net's own.
    """
    check_architecture(architecture, "the plans")
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        input_channels,
        num_classes,
        allow_init=True,
        deep_supervision=deep_supervision,
    )
