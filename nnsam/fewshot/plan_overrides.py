"""Another patch or batch size in nnU-Net's plans, with the network's depth that the patch allows."""

import math
from collections.abc import MutableMapping
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.plan_options import PlanOptions

# Lists of the architecture with one entry per stage; decoders have one fewer.
_PER_STAGE = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")
_PER_DECODER_STAGE = ("n_conv_per_stage_decoder",)
_SMALLEST_EDGE = 4  # of the bottleneck's feature map, as in nnU-Net's planner


def override(plans: MutableMapping[str, Any], options: PlanOptions) -> None:
    """Sets patch and batch size of the study's configuration in place.

    The network loses the stages that a smaller patch has no room for, by nnU-Net's own rule; it never gets more than
    planned.

    Args:
        plans: content of nnU-Net's plans file.
        options: with the sizes; what is None stays as planned.

    Raises:
        InputError: the patch does not fit the network's strides.
    """
    configuration = plans["configurations"][options.configuration]
    if options.batch_size is not None:
        configuration["batch_size"] = options.batch_size
    if options.patch_size is None:
        return
    _fit_network(configuration["architecture"]["arch_kwargs"], configuration["spacing"], options.patch_size)
    configuration["patch_size"] = list(options.patch_size)


def _fit_network(kwargs: MutableMapping[str, Any], spacing: list[float], patch_size: tuple[int, ...]) -> None:
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, _, _ = get_pool_and_conv_props(spacing, patch_size, _SMALLEST_EDGE, 999999)
    stages = min(len(strides), kwargs["n_stages"])
    kwargs.update(n_stages=stages, strides=list(strides), kernel_sizes=list(kernels))
    for names, length in ((_PER_STAGE, stages), (_PER_DECODER_STAGE, stages - 1)):
        for name in names:
            if name in kwargs:
                kwargs[name] = list(kwargs[name])[:length]
    for axis, side in enumerate(patch_size):
        factor = math.prod(stride[axis] for stride in kwargs["strides"])
        if side % factor:
            raise InputError(
                f"the patch size is {' '.join(map(str, patch_size))}, and the network shrinks axis {axis} to "
                f"1/{factor}; "
                f"choose a multiple of that, e.g. {-(-side // factor) * factor}"
            )
