"""Runs 2D convolutions in the memory layout that suits bfloat16 on CPUs, channels last, instance norms included.

In bfloat16, the convolutions of a U-Net are more than twice as quick in this layout, but PyTorch's instance norm
copies its input to the other one and back, which eats the gain. Instance norm is batch norm of one sample at a time,
and PyTorch's batch norm works in either layout.
"""

import types

import torch
from torch import Tensor, nn
from torch.nn import functional


def instance_norm(module: nn.InstanceNorm2d, x: Tensor) -> Tensor:
    """Computes ``module(x)`` for (B, C, H, W) in the layout of `x`."""
    samples = [
        functional.batch_norm(
            sample, None, None, module.weight, module.bias, training=True, momentum=0.0, eps=module.eps
        )
        for sample in x.split(1)
    ]
    return torch.cat(samples)


class ChannelsLast:
    """Switches modules between channels last and the usual layout; values of weights stay as they are.

    Args:
        modules: networks of 2D convolutions; shared parts may be given more than once.
    """

    def __init__(self, *modules: nn.Module):
        self._modules = modules
        # Instance norms that keep running statistics behave otherwise and are left alone.
        self._norms = {
            norm
            for module in modules
            for norm in module.modules()
            if isinstance(norm, nn.InstanceNorm2d) and not norm.track_running_stats
        }

    def enable(self) -> None:
        """Switches to channels last."""
        for module in self._modules:
            module.to(memory_format=torch.channels_last)
        for norm in self._norms:
            norm.forward = types.MethodType(instance_norm, norm)  # type: ignore[method-assign]

    def disable(self) -> None:
        """Switches back."""
        for norm in self._norms:
            norm.__dict__.pop("forward", None)
        for module in self._modules:
            module.to(memory_format=torch.contiguous_format)
