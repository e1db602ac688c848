"""Instance norms of large feature maps, written so that OpenVINO computes them as exactly as PyTorch.

OpenVINO 2026.4 sums up a whole plane in single precision, one number after the other: the error grows with the plane.
Measured on the output of a convolution, root-mean-square error relative to double precision: 7e-6 (256 x 256), 3e-5
(640 x 640), 1e-4 (32 x 192 x 192); PyTorch's is below 1e-6. Through the layers of a U-Net for patches of 640 x 640 this
became 4e-3 of the logits, more than an export may differ. Sums over rows first, then over the rows' sums, do not have
this error, and cost 10 % of such a network's time.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: Planes of more pixels (voxels) are summed up row by row; up to here OpenVINO's own, quicker way is exact enough.
LARGEST_PLANE = 256 * 256


@contextmanager
def stable_norms(network: nn.Module) -> Iterator[None]:
    """Lets the instance norms in a network, in the block, be traced in the exact way where planes are large.

    Norms that keep running statistics are left alone: they sum up nothing.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)) and not module.track_running_stats
    ]
    for norm in norms:
        norm.forward = types.MethodType(_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _forward(norm: Any, x: Tensor) -> Tensor:
    if x[0, 0].numel() <= LARGEST_PLANE:
        return type(norm).forward(norm, x)
    return row_by_row(x, norm.weight, norm.bias, norm.eps)


def row_by_row(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Computes instance norm of (B, C, H, W) or (B, C, D, H, W)."""
    to_planes = (..., *(None,) * (x.ndim - 2))
    rows = x[0, 0].numel() // x.shape[-1]

    def mean(values: Tensor) -> Tensor:
        # A sum, not another mean: OpenVINO would make one operation of two means.
        return values.mean(-1).flatten(2).sum(-1) * (1.0 / rows)

    centred = x - mean(x)[to_planes]
    scale = torch.rsqrt(mean(centred * centred) + eps)
    if weight is not None:
        scale = scale * weight
    result = centred * scale[to_planes]
    return result if bias is None else result + bias[to_planes]
