"""ONNX files of exported networks, for other runtimes than OpenVINO; each is read back and compared."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.export.conversion import EXAMPLE_BATCH
from nnsam.export.parity import LogitDifference
from nnsam.export.stable_norm import stable_norms
from nnsam.runtime.openvino_import import import_openvino

# The first with layer normalisation as one operation; PyTorch's exporter of TorchScript writes up to 20.
OPSET = 17


def check_onnx() -> None:
    """Raises SetupError where PyTorch's exporter lacks its package."""
    try:
        import onnx  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise SetupError("ONNX files need the package onnx; install it with: pip install onnx") from error


def write_onnx(
    module: nn.Module, shapes: Sequence[Sequence[int]], inputs: Sequence[str], output: str, path: Path
) -> LogitDifference:
    """Writes a module as ONNX with a free batch size, reads it with OpenVINO and compares it with PyTorch in float32.

    Args:
        module: in evaluation mode; tensors in, one tensor out.
        shapes: of the inputs without the batch.
        inputs: names of the inputs.
        output: name of the output.
        path: ends in .onnx.

    Returns:
        The difference on noise, for another batch size than was exported with.

    Raises:
        InputError: the module cannot be expressed, or the file computes something else.
        SetupError: the package onnx is missing.
    """
    check_onnx()
    example = tuple(torch.zeros(EXAMPLE_BATCH, *shape) for shape in shapes)
    with torch.no_grad(), stable_norms(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants, and of the newer exporter, which needs one more package
        try:
            torch.onnx.export(
                module,
                example,
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={name: {0: "batch"} for name in (*inputs, output)},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise InputError(f"{path.stem} cannot be written as ONNX ({str(error).splitlines()[0]})") from error
    difference = _compare(module, shapes, path)
    difference.check(f"{path.name}, read by OpenVINO")
    return difference


def _compare(module: nn.Module, shapes: Sequence[Sequence[int]], path: Path) -> LogitDifference:
    openvino = import_openvino()

    generator = torch.Generator().manual_seed(0)
    example = [torch.randn(EXAMPLE_BATCH + 1, *shape, generator=generator) for shape in shapes]
    core = openvino.Core()
    network = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    difference = LogitDifference()
    with torch.inference_mode():
        expected = module(*example).numpy()
    difference.add(expected, np.array(network([value.numpy() for value in example])[0]))
    return difference
