"""Writes the networks of one fold into a bundle and describes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nnsam.errors import InputError
from nnsam.export.conversion import FusedNetwork, ImageEncoder, UNetBranch, save, to_openvino
from nnsam.export.measurement import NetworkFiles
from nnsam.export.onnx_export import write_onnx
from nnsam.export.trained_model import TrainedModel, sam_branch
from nnsam.networks.legacy import LegacyInput
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS
from nnsam.networks.sam_branch import SAMBranch, digest
from nnsam.prompts.encoding import ENCODINGS

IMAGE_ENCODER = "image_encoder"


@dataclass(frozen=True)
class Part:
    """A network to be written: what :func:`nnsam.export.conversion.to_openvino` needs, and the file's name."""

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
        shapes: tuple[tuple[int, ...], ...] = (self.patch_shape,)
        names: tuple[str, ...] = ("patch",)
        if branch is None:
            encoder = None
        else:
            encoder = self._write_encoder(fold, branch)
            side = branch.prepare.size // 16
            shapes, names = (*shapes, (EMBEDDING_CHANNELS, side, side)), (*names, "embedding")
        unet = Part(f"unet_fold{fold}", UNetBranch(network, self.model.patch_size), shapes, names, "logits")
        return NetworkFiles(self._write(unet), encoder)

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
