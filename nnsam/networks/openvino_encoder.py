"""Runs a frozen PyTorch module on the CPU through OpenVINO, checked against PyTorch."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnsam.support.openvino import import_openvino

# Relative root-mean-square difference to PyTorch float32 that is accepted. bfloat16 has 8 bits of mantissa; through the
# encoder's some 50 layers that adds up to 1 to 2 % here.
RELATIVE_TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}


class OpenVINOEncoder:
    """Callable (B, ...) float32 tensor -> tensor, equal to `module` within :data:`RELATIVE_TOLERANCE`.

    Compiled for one input shape at a time, on first use of the shape. Results are copies: OpenVINO reuses its output
    buffers in the next call, and nnU-Net accumulates in place.

    Args:
        module: in evaluation mode; one tensor in, one tensor out.
        precision: "f32" or "bf16" (for processors with AVX-512 BF16 or AMX).
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.

    Raises:
        SetupError: OpenVINO is not installed.
    """

    def __init__(self, module: nn.Module, precision: str = "f32", threads: int = 0):
        self._core = import_openvino().Core()
        self.precision = precision
        self._options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._module = module
        self._compiled: dict[tuple[int, ...], Callable] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Computes the module's output; `x` is on the CPU."""
        shape = tuple(x.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self.compile(shape)
        result = self._compiled[shape](x.detach().contiguous().numpy())[0]
        return torch.from_numpy(np.array(result, dtype=np.float32, copy=True))

    def relative_difference(self, x: Tensor) -> float:
        """Returns the relative root-mean-square difference to the PyTorch module in float32 on `x`."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            expected = self._module(x)
        return float((self(x) - expected).square().mean().sqrt() / expected.square().mean().sqrt())

    def compile(self, shape: tuple[int, ...]) -> Callable:
        """Returns the compiled network for one input shape; its results may be views of OpenVINO's buffers."""
        model = convert(self._module, torch.zeros(shape))
        model.reshape(list(shape))
        return self._core.compile_model(model, "CPU", self._options)


def convert(module: nn.Module, *examples: Tensor) -> Any:
    """Converts a module to an OpenVINO model, through the tracer.

    This goes to OpenVINO's PyTorch front end directly: ``openvino.convert_model`` would report the conversion to its
    makers over the network unless the user has opted out.

    Args:
        module: in evaluation mode; tensors in, one tensor out.
        *examples: its inputs.

    Raises:
        SetupError: OpenVINO is not installed.
    """
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # Under autocast the tracer would record casts of the weights.
    with torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of shapes becoming constants, which is what is wanted
        # The front end reads through the decoder while it converts, so the decoder needs a name that keeps it alive.
        decoder = TorchScriptPythonDecoder(module, example_input=examples)
        front_end = FrontEndManager().load_by_framework("pytorch")
        return front_end.convert(front_end.load(decoder))
