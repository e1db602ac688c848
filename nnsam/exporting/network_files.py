"""Writes the networks of one fold into a bundle and describes them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.exporting.comparison import LogitDifference, NetworkFiles
from nnsam.exporting.conversion import (
    EXAMPLE_BATCH,
    FusedNetwork,
    UNetBranch,
    save,
    stable_norms,
    to_openvino,
)
from nnsam.networks.legacy import LegacyInput
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS
from nnsam.networks.sam_branch import ImageEncoder, SAMBranch, digest
from nnsam.nnunet.model_folder import TrainedModel, sam_branch
from nnsam.prompts.encoding import ENCODINGS
from nnsam.support.openvino import import_openvino

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


IMAGE_ENCODER = "image_encoder"


@dataclass(frozen=True)
class Part:
    """A network to be written: what :func:`nnsam.exporting.conversion.to_openvino` needs, and the file's name."""

    stem: str
    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    output: str


class NetworkWriter:
    """Writes fold after fold; the image encoder, which the folds share, once.

    Args:
        model: the model folder.
        folder: the bundle to be.
        onnx: write ONNX files, too.

    Attributes:
        encoder: description of the image encoder for the manifest, None where there is none.
    """

    def __init__(self, model: TrainedModel, folder: Path, onnx: bool = False):
        self.model = model
        self.folder = folder
        self.onnx = onnx
        self.encoder: dict[str, Any] | None = None
        self._encoder_digest = ""

    def write(self, fold: str, network: nn.Module) -> NetworkFiles:
        """Writes the networks of a fold, in float32.

        Raises:
            InputError: the network cannot be converted, or its image encoder is another one than the other folds'.
            OSError: a file cannot be written.
        """
        branch = sam_branch(network)
        encoder = None if branch is None else self._write_encoder(fold, branch)
        return NetworkFiles(self._write(self.unet(fold, network)), encoder)

    def unet(self, fold: str, network: nn.Module) -> Part:
        """Returns what is written of a fold's network besides the image encoder."""
        shapes: tuple[tuple[int, ...], ...] = (self.patch_shape,)
        names: tuple[str, ...] = ("patch",)
        branch = sam_branch(network)
        if branch is not None:
            side = branch.prepare.size // 16
            shapes, names = (*shapes, (EMBEDDING_CHANNELS, side, side)), (*names, "embedding")
        return Part(f"unet_fold{fold}", UNetBranch(network, self.model.patch_size).eval(), shapes, names, "logits")

    def write_fused(self, fold: str, network: nn.Module) -> NetworkFiles:
        """Writes both parts of a fold's network as one; see :meth:`write`."""
        branch = sam_branch(network)
        assert branch is not None
        both = FusedNetwork(UNetBranch(network, self.model.patch_size), ImageEncoder(branch))
        shapes = (self.patch_shape, self._picture_shape)
        return NetworkFiles(
            self._write(Part(f"fused_fold{fold}", both, shapes, ("patch", "picture"), "logits")), fused=True
        )

    def onnx_name(self, path: Path) -> str | None:
        """Returns the name of the ONNX file beside an IR file, None where none is written."""
        return path.with_suffix(".onnx").name if self.onnx else None

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(C, *patch) of the network's input, or (C + P, *patch) with prompts."""
        prompts = ENCODINGS[self.model.box.prompt] if self.model.box else 0
        return (self.model.image_channels + prompts, *self.model.patch_size)

    @property
    def _picture_shape(self) -> tuple[int, int, int]:
        assert self.encoder is not None
        return (self.encoder["channels"], self.encoder["size"], self.encoder["size"])

    def _write(self, part: Part) -> Path:
        path = self.folder / f"{part.stem}.xml"
        save(to_openvino(part.module, part.shapes, part.inputs, part.output), path)
        if self.onnx and not part.stem.startswith("fused"):
            write_onnx(part.module, part.shapes, part.inputs, part.output, path.with_suffix(".onnx"))
        return path

    def _write_encoder(self, fold: str, branch: SAMBranch) -> Path:
        path, found = self.folder / f"{IMAGE_ENCODER}.xml", digest(branch.encoder)
        if self.encoder is not None:
            if found != self._encoder_digest:
                raise InputError(
                    f"the image encoder of fold {fold} differs from that of fold {self.model.folds[0]} (trained with "
                    f"other SAM weights, or by nnSAMLegacyTrainer, which changes it), and a bundle holds one; export "
                    f"the folds one by one with --folds"
                )
            return path
        self._encoder_digest = found
        legacy = isinstance(branch.prepare, LegacyInput)
        self.encoder = {
            "file": path.name,
            "int8": None,
            "onnx": self.onnx_name(path),
            "size": branch.prepare.size,
            "input": "legacy" if legacy else "robust",
            "channels": 1 if self.model.image_channels == 1 and not legacy else 3,
        }
        return self._write(Part(IMAGE_ENCODER, ImageEncoder(branch), (self._picture_shape,), ("picture",), "embedding"))
