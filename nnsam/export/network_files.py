"""Writes the networks of one fold into a bundle and describes them."""

from pathlib import Path
from typing import Any

from torch import nn

from nnsam.errors import InputError
from nnsam.export.conversion import FusedNetwork, ImageEncoder, UNetBranch, save, to_openvino
from nnsam.export.measurement import NetworkFiles
from nnsam.export.trained_model import TrainedModel, sam_branch
from nnsam.networks.legacy import LegacyInput
from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS
from nnsam.networks.sam_branch import SAMBranch, digest
from nnsam.prompts.encoding import ENCODINGS

IMAGE_ENCODER = "image_encoder.xml"


class NetworkWriter:
    """Writes fold after fold; the image encoder, which the folds share, once.

    Args:
        model: the model folder.
        folder: the bundle to be.

    Attributes:
        encoder: description of the image encoder for the manifest, None where there is none.
    """

    def __init__(self, model: TrainedModel, folder: Path):
        self.model = model
        self.folder = folder
        self.encoder: dict[str, Any] | None = None
        self._encoder_digest = ""

    def write(self, fold: str, network: nn.Module) -> NetworkFiles:
        """Writes the networks of a fold, in float32.

        Raises:
            InputError: the network cannot be converted, or its image encoder is another one than the other folds'.
            OSError: a file cannot be written.
        """
        unet = UNetBranch(network, self.model.patch_size)
        branch = sam_branch(network)
        path = self.folder / f"unet_fold{fold}.xml"
        shapes, names = [self.patch_shape], ["patch"]
        if branch is not None:
            self._write_encoder(fold, branch)
            side = branch.prepare.size // 16
            shapes, names = [*shapes, (EMBEDDING_CHANNELS, side, side)], [*names, "embedding"]
        save(to_openvino(unet, shapes, names, "logits"), path)
        return NetworkFiles(path, None if branch is None else self.folder / IMAGE_ENCODER)

    def write_fused(self, fold: str, network: nn.Module) -> NetworkFiles:
        """Writes both parts of a fold's network as one; see :meth:`write`."""
        branch = sam_branch(network)
        assert branch is not None
        assert self.encoder is not None
        both = FusedNetwork(UNetBranch(network, self.model.patch_size), ImageEncoder(branch))
        path = self.folder / f"fused_fold{fold}.xml"
        save(to_openvino(both, [self.patch_shape, self._picture_shape], ["patch", "picture"], "logits"), path)
        return NetworkFiles(path, fused=True)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(C, *patch) of the network's input, or (C + P, *patch) with prompts."""
        prompts = ENCODINGS[self.model.box.prompt] if self.model.box else 0
        return (self.model.image_channels + prompts, *self.model.patch_size)

    @property
    def _picture_shape(self) -> tuple[int, int, int]:
        assert self.encoder is not None
        return (self.encoder["channels"], self.encoder["size"], self.encoder["size"])

    def _write_encoder(self, fold: str, branch: SAMBranch) -> None:
        found = digest(branch.encoder)
        if self.encoder is not None:
            if found != self._encoder_digest:
                raise InputError(
                    f"the image encoder of fold {fold} differs from that of fold {self.model.folds[0]} (trained with "
                    f"other SAM weights, or by nnSAMLegacyTrainer, which changes it), and a bundle holds one; export "
                    f"the folds one by one with --folds"
                )
            return
        self._encoder_digest = found
        legacy = isinstance(branch.prepare, LegacyInput)
        self.encoder = {
            "file": IMAGE_ENCODER,
            "int8": None,
            "size": branch.prepare.size,
            "input": "legacy" if legacy else "robust",
            "channels": 1 if self.model.image_channels == 1 and not legacy else 3,
        }
        model = to_openvino(ImageEncoder(branch), [self._picture_shape], ["picture"], "embedding")
        save(model, self.folder / IMAGE_ENCODER)
