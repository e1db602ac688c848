"""From PyTorch networks to OpenVINO models: any batch size, float32 weights, inputs and outputs named.

A network with a SAM branch is split in two, so that the embedding of an image can be kept: the image encoder (picture
-> embedding) and the U-Net (patch, embedding -> logits). The two in one are the fused network (patch, picture ->
logits). Level-set heads and deep supervision are left out: they belong to training.
"""

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnsam.errors import InputError, SetupError
from nnsam.networks.fused_unet import BottleneckFusion, FusedUNet
from nnsam.networks.openvino_encoder import convert
from nnsam.networks.sam_branch import ImageEncoder, resize_tensor
from nnsam.support.openvino import import_openvino

#: Planes of more pixels (voxels) are summed up row by row; up to here OpenVINO's own, quicker way is exact enough.
LARGEST_PLANE = 256 * 256


@contextmanager
def stable_norms(network: nn.Module, largest_plane: int = LARGEST_PLANE) -> Iterator[None]:
    """Lets the instance norms in a network, in the block, be traced in the exact way where planes are large.

    Norms that keep running statistics are left alone: they sum up nothing.

    Args:
        network: whose norms are changed and, at the end of the block, restored.
        largest_plane: number of pixels (voxels) up to which a plane is summed up in the usual way.
    """

    def forward(norm: Any, x: Tensor) -> Tensor:
        if x[0, 0].numel() <= largest_plane:
            return type(norm).forward(norm, x)
        return row_by_row(x, norm.weight, norm.bias, norm.eps)

    norms = [
        module
        for module in network.modules()
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)) and not module.track_running_stats
    ]
    for norm in norms:
        norm.forward = types.MethodType(forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


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


# Two, so that nothing takes the batch for a constant of 1.
EXAMPLE_BATCH = 2


class UNetBranch(nn.Module):
    """The trained part of a network: (B, C, *patch), and (B, 256, s, s) where there is a SAM branch -> (B, O, *patch).

    Shares its modules with `network`. Its logits are the network's own.

    Args:
        network: in evaluation mode, deep supervision off.
        patch_size: the network's input in pixels; (h, w) where there is a SAM branch.
    """

    reduce_rows: Tensor
    reduce_columns: Tensor

    def __init__(self, network: nn.Module, patch_size: Sequence[int]):
        super().__init__()
        self.network: Any = network
        self.reduces = False
        if isinstance(network, FusedUNet) and network.sam is not None and isinstance(network.fusion, BottleneckFusion):
            self.reduces = True
            side = network.sam.prepare.size // 16
            with torch.no_grad():
                bottleneck = network.encoder(torch.zeros(1, _input_channels(network), *patch_size))[-1]
            self.register_buffer("reduce_rows", resize_matrix(side, bottleneck.shape[-2]))
            self.register_buffer("reduce_columns", resize_matrix(side, bottleneck.shape[-1]).T.contiguous())

    def forward(self, patch: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Returns the logits."""
        if not isinstance(self.network, FusedUNet):
            return self.network(patch)
        skips = list(self.network.encoder(patch))
        if embedding is not None:
            if self.reduces:
                embedding = torch.matmul(torch.matmul(self.reduce_rows, embedding), self.reduce_columns)
            skips = self.network.fuse(skips, embedding)
        return self.network._decode(skips)[0][0]


class FusedNetwork(nn.Module):
    """Both parts in one: patch and picture -> logits."""

    def __init__(self, unet: UNetBranch, encoder: ImageEncoder):
        super().__init__()
        self.unet = unet
        self.encoder = encoder

    def forward(self, patch: Tensor, picture: Tensor) -> Tensor:
        """Returns the logits."""
        return self.unet(patch, self.encoder(picture))


def resize_matrix(source: int, target: int) -> Tensor:
    """Returns the (target, source) matrix that resizes an axis as :func:`nnsam.networks.sam_branch.resize_tensor` does.

    Resizing is linear and separable, and other frameworks lack PyTorch's anti-aliased one.
    """
    return resize_tensor(torch.eye(source)[None, None], (target, source))[0, 0].contiguous()


def sam_input(network: nn.Module, patch: Tensor) -> Tensor:
    """Returns the channels of a patch that the network's SAM branch looks at."""
    return network.sam_input(patch) if isinstance(network, FusedUNet) else patch


def to_openvino(module: nn.Module, shapes: Sequence[Sequence[int]], inputs: Sequence[str], output: str) -> Any:
    """Converts a module to an OpenVINO model with a free batch size.

    Args:
        module: in evaluation mode; tensors in, one tensor out.
        shapes: of the inputs without the batch.
        inputs: names to give to the inputs.
        output: name to give to the output.

    Raises:
        InputError: the module has operations that OpenVINO lacks.
        SetupError: OpenVINO is not installed.
    """
    try:
        with stable_norms(module):
            model = convert(module, *(torch.zeros(EXAMPLE_BATCH, *shape) for shape in shapes))
        model.reshape({index: [-1, *shape] for index, shape in enumerate(shapes)})
    except SetupError:
        raise
    except Exception as error:  # OpenVINO and the tracer raise their own types
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise InputError(f"the network cannot be converted to OpenVINO ({reason})") from error
    for port, name in zip([*model.inputs, model.outputs[0]], [*inputs, output], strict=True):
        port.get_tensor().set_names({name})
    for parameter, name in zip(model.get_parameters(), inputs, strict=True):
        parameter.set_friendly_name(name)
    return model


def save(model: Any, path: Path) -> None:
    """Writes a model as IR with float32 weights.

    Raises:
        OSError: it cannot be written, completely.
    """
    openvino = import_openvino()

    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
        openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error


def _input_channels(network: Any) -> int:
    return next(parameter for parameter in network.encoder.parameters() if parameter.ndim == 4).shape[1]
