"""The frozen SAM branch of a network: input adaptation, encoder, and a record of its weights' origin."""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnsam.errors import NnsamWarning
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.provenance import Provenance
from nnsam.networks.sam_input import SAMInput

_WARNED: set[Provenance] = set()


class SAMBranch(nn.Module):
    """(B, C, H, W) patch -> (B, 256, size/16, size/16) embedding, without gradient.

    The encoder is part of the state dict, so a checkpoint needs no extra file. Loading a state dict whose encoder is
    random warns, unless `random_by_design`.

    Args:
        encoder: the frozen encoder.
        size: side of the square image that the encoder gets.
        provenance: origin of the encoder's weights; computed as "random" where it is not given.
        random_by_design: the network is the control with a random encoder, so nothing needs a warning.

    Attributes:
        runtime: if set, does the work of :meth:`embed`. Not part of the state; see
            :class:`nnsam.networks.openvino_encoder.OpenVINOEncoder`.
        may_use_runtime: the encoder computes the same in training as in evaluation, so that a runtime can replace it.
    """

    runtime: Callable[[Tensor], Tensor] | None = None
    origin: Tensor
    may_use_runtime = True

    def __init__(
        self,
        encoder: MobileSAMEncoder,
        size: int = 1024,
        provenance: Provenance | None = None,
        random_by_design: bool = False,
    ):
        super().__init__()
        self.prepare = self.build_input(size)
        self.encoder = encoder
        self.random_by_design = random_by_design
        self.register_buffer("origin", (provenance or Provenance("random", digest(encoder))).to_tensor())
        self.register_load_state_dict_post_hook(_warn_if_random)

    def build_input(self, size: int) -> Any:
        """Returns the module that makes the encoder's input, with :class:`SAMInput`'s methods."""
        return SAMInput(size)

    @property
    def provenance(self) -> Provenance:
        """Origin of the weights that are in the encoder now."""
        return Provenance.from_tensor(self.origin)

    def load_encoder(self, state: dict[str, Tensor], provenance: Provenance) -> None:
        """Replaces the encoder's weights, strictly, and records where they come from."""
        self.encoder.load_state_dict(state, strict=True)
        self.origin.copy_(provenance.to_tensor())

    def warn_if_random(self) -> None:
        """Warns where the weights are random though the network is meant to carry SAM's; once per encoder."""
        # nnU-Net loads the weights again for every case that it predicts.
        if self.provenance.kind == "random" and not self.random_by_design and self.provenance not in _WARNED:
            _WARNED.add(self.provenance)
            warnings.warn("this network's SAM branch has RANDOM weights, not SAM's", NnsamWarning, stacklevel=2)

    # The frozen part gains nothing from being traced together with the rest, and a graph break here is cheap.
    @torch.compiler.disable
    def forward(self, patch: Tensor) -> Tensor:
        """Computes the embedding of a patch in nnU-Net's normalisation."""
        with torch.no_grad():
            picture = self.prepare.picture(patch)
            return self.embed(picture) if self.runtime is None else self.runtime(picture)

    def embed(self, picture: Tensor) -> Tensor:
        """Normalises and encodes a picture, (B, 1 or 3, size, size), as `prepare.picture` makes it."""
        return self.encoder(self.prepare.normalize(picture))


def _warn_if_random(branch: Any, _: object) -> None:
    # A function of the branch that is loaded, which need not be the one that registered it: copies keep their hooks.
    branch.warn_if_random()


def digest(module: nn.Module) -> str:
    """Returns the SHA-256 over the names and bytes of all tensors of a module, in order."""
    total = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
