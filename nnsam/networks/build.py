"""Builds the trainable networks from nnU-Net's plans."""

from collections.abc import Mapping
from typing import Any

from nnsam.errors import InputError
from nnsam.networks.fused_unet import FusedUNet
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.sam_branch import SAMBranch


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
    """Builds and initialises nnU-Net's own network, by nnU-Net's own function."""
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
