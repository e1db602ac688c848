"""Which SAM weights a network carries, as a tensor, so that it travels with nnU-Net's checkpoints."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["random", "official", "custom"]
_KINDS: tuple[Kind, ...] = ("random", "official", "custom")


@dataclass(frozen=True)
class Provenance:
    """Origin of an encoder's weights.

    Attributes:
        kind: "official" (MobileSAM's own file), "custom" (another file that fits, e.g. fine-tuned) or "random".
        sha256: of the file, 64 hexadecimal digits; of the tensors' bytes where the weights are random.
    """

    kind: Kind
    sha256: str

    def to_tensor(self) -> Tensor:
        """Encodes as 33 bytes (uint8): the kind's index, then the digest."""
        return torch.tensor([_KINDS.index(self.kind), *bytes.fromhex(self.sha256)], dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, data: Tensor) -> "Provenance":
        """Decodes what :meth:`to_tensor` gave."""
        kind, *digest = data.cpu().tolist()
        return cls(_KINDS[kind], bytes(digest).hex())

    def __str__(self) -> str:
        label = {
            "random": "RANDOM weights (not SAM's)",
            "official": "official MobileSAM weights",
            "custom": "MobileSAM weights that are not the official file",
        }
        return f"{label[self.kind]}, SHA-256 {self.sha256}"
