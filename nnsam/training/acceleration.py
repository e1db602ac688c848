"""Training on the CPU at the speed that the processor offers.

nnU-Net trains in float32 on the CPU. On processors with bfloat16 instructions (AVX-512 BF16, AMX) the U-Net runs under
autocast, and the frozen encoder, which needs no gradient, through OpenVINO. Both can be switched by environment
variables:

- ``NNSAM_CPU_PRECISION``: ``auto`` (default: bfloat16 where the processor has it), ``bfloat16`` (``bf16``) or
  ``float32`` (``f32``);
- ``NNSAM_CPU_ENCODER``: ``auto`` (default: whichever is quicker, tried at the start of the training), ``openvino`` or
  ``torch``.

They change the speed of a training and roundings, nothing that a checkpoint has to know. Validation at the end of a
training and ``nnUNetv2_predict`` always compute in float32 with PyTorch.
"""

import os
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.networks.fused_unet import SegmentationNetwork
from nnsam.networks.openvino_encoder import RELATIVE_TOLERANCE, OpenVINOEncoder
from nnsam.networks.sam_branch import ImageEncoder
from nnsam.support.openvino import check_precision, has_bfloat16


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


# Of the environment variable; see :func:`nnsam.support.openvino.check_precision`.
PRECISIONS = ("auto", "float32", "bfloat16", "f32", "bf16")
ENCODERS = ("auto", "openvino", "torch")


def setting(variable: str, choices: tuple[str, ...]) -> str:
    """Reads an environment variable that has to be one of `choices`; the first one is the default."""
    value = os.environ.get(variable, "").strip().lower() or choices[0]
    if value not in choices:
        raise InputError(f"{variable}={value!r} is unknown; expected one of {', '.join(choices)}")
    return value


def check_settings() -> None:
    """Raises InputError where an environment variable of this module has an unknown value."""
    setting("NNSAM_CPU_PRECISION", PRECISIONS)
    setting("NNSAM_CPU_ENCODER", ENCODERS)


def cpu_precision() -> str:
    """Returns "f32" or "bf16" for training on this processor."""
    value = check_precision(setting("NNSAM_CPU_PRECISION", PRECISIONS))
    if value == "auto":
        return "bf16" if has_bfloat16() else "f32"
    if value == "bf16" and not has_bfloat16():
        warnings.warn(
            "NNSAM_CPU_PRECISION=bfloat16 on a processor without bfloat16 instructions: training will be slow",
            NnsamWarning,
            stacklevel=2,
        )
    return value


def seconds(function: Callable[[], object], repeats: int = 2) -> float:
    """Returns the shortest time of some calls after a first one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


class CPUAcceleration:
    """Switches a network between the fast way (training) and the exact one (float32, PyTorch).

    Args:
        network: changed in place by :meth:`enable` and :meth:`disable`; its weights are not.
        patch: an example of what the network gets, (B, C, H, W); it decides what is quicker.
        log: receives one line that says what was chosen.
        compile_encoder: OpenVINO's side, see :class:`nnsam.networks.openvino_encoder.OpenVINOEncoder`.
        timer: times a call, in seconds.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        patch: torch.Tensor,
        log: Callable[[str], object],
        *,
        compile_encoder: Callable[..., Any] = OpenVINOEncoder,
        timer: Callable[[Callable[[], object]], float] = seconds,
    ):
        self._network = network
        self._compile_encoder, self._timer = compile_encoder, timer
        self._bfloat16 = cpu_precision() == "bf16"
        self._runtime: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._layout = ChannelsLast(*network.convolutional_parts()) if self._bfloat16 else None
        log(f"nnsam: training on the CPU in {'bfloat16 (autocast)' if self._bfloat16 else 'float32'}")
        if network.sam is not None:
            self._choose_runtime(network.sam, patch, log)

    def enable(self) -> None:
        """Switches to the fast way."""
        self._network.cpu_autocast = self._bfloat16
        if self._layout is not None:
            self._layout.enable()
        if self._network.sam is not None:
            self._network.sam.runtime = self._runtime

    def disable(self) -> None:
        """Switches to float32 in PyTorch."""
        self._network.cpu_autocast = False
        if self._layout is not None:
            self._layout.disable()
        if self._network.sam is not None:
            self._network.sam.runtime = None

    def _choose_runtime(self, sam, patch: torch.Tensor, log: Callable[[str], object]) -> None:
        wanted = setting("NNSAM_CPU_ENCODER", ENCODERS)
        if wanted == "torch" or not sam.may_use_runtime:
            return
        precision = "bf16" if self._bfloat16 else "f32"
        picture, embed = sam.prepare.picture(patch), ImageEncoder(sam)
        try:
            runtime = self._compile_encoder(embed, precision, threads=torch.get_num_threads())
        except SetupError as error:
            if wanted == "openvino":
                raise
            log(f"nnsam: SAM encoder in PyTorch ({error})")
            return
        difference = runtime.relative_difference(picture)
        if not difference <= RELATIVE_TOLERANCE[precision]:  # also true for NaN
            message = f"OpenVINO's {precision} embedding differs from PyTorch's by {difference:.1%} (RMS)"
            if wanted == "openvino":
                raise SetupError(f"{message}, more than {RELATIVE_TOLERANCE[precision]:.1%}; unset NNSAM_CPU_ENCODER")
            log(f"nnsam: SAM encoder in PyTorch, because {message}")
            return
        quick, slow = self._timer(lambda: runtime(picture)), self._timer(lambda: self._in_torch(embed, picture))
        use = wanted == "openvino" or quick < slow
        self._runtime = runtime if use else None
        log(
            f"nnsam: SAM encoder in {'OpenVINO' if use else 'PyTorch'}; per batch OpenVINO {precision} {quick:.3f} s, "
            f"PyTorch {slow:.3f} s; OpenVINO differs by {difference:.2e} (relative RMS)"
        )

    def _in_torch(self, embed: nn.Module, picture: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bfloat16):
            return embed(picture)
