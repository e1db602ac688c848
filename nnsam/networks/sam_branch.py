"""The frozen SAM branch of a network: input adaptation, encoder, and a record of its weights' origin."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsam.errors import InputError, NnsamWarning
from nnsam.networks.mobile_sam import SIZE_MULTIPLE, MobileSAMEncoder

# SAM's pixel statistics, RGB 0..255 (Kirillov et al., "Segment Anything", arXiv 2304.02643, official code).
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SAMInput(nn.Module):
    """Patch of any intensity scale and channel count -> SAM-normalised (B, 3, size, size).

    1. Robust rescale to 0..1, per image: the 0.5 and 99.5 percentiles go to 0 and 1, values beyond are clipped. One
       channel, or each of 2 or more than 3 channels, on its own; 3 channels together, so that colours keep their hue.
       A patch whose percentiles lie closer than `minimum_range` (a flat one) is not stretched to full contrast.
    2. Three channels: 1 is repeated; 2 become (a, b, mean of a and b); 3 are RGB; more are cut into three groups of
       neighbours (the first groups take the remainder), each averaged.
    3. Resize to the square that the encoder gets, as nnSAM does (section 2.3 of arXiv 2309.16967v1), bilinear, with
       anti-aliasing where it shrinks.
    4. Times 255, minus SAM's mean, divided by SAM's standard deviation.

    Args:
        size: side of the output, a multiple of 32; the paper's is 1024.
    """

    minimum_range = 1e-2
    mean: Tensor
    std: Tensor

    def __init__(self, size: int = 1024):
        super().__init__()
        if size < SIZE_MULTIPLE or size % SIZE_MULTIPLE:
            raise InputError(f"the SAM input size is {size}; expected a positive multiple of {SIZE_MULTIPLE}")
        self.size = size
        # Not persistent: constants of SAM, no weights of a model.
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, patch: Tensor) -> Tensor:
        """Maps (B, C, H, W), C >= 1, to (B, 3, size, size) in float32."""
        return self.normalize(self.picture(patch))

    def picture(self, patch: Tensor) -> Tensor:
        """Does steps 1 to 3: (B, C, H, W) to (B, 3, size, size), or (B, 1, size, size) for C = 1, in 0..1."""
        image = to_three_channels(rescale_robust(patch.detach().float(), self.minimum_range))
        return resize_tensor(image, (self.size, self.size))

    def normalize(self, picture: Tensor) -> Tensor:
        """Does step 4: (B, 1 or 3, size, size) in 0..1 to (B, 3, size, size), SAM-normalised."""
        if picture.shape[1] == 1:
            # Not expand: OpenVINO 2026.4 reads beyond the end of a picture that it broadcasts to three channels, which
            # mostly goes well and now and then ends the process.
            picture = torch.cat((picture, picture, picture), dim=1)
        return (picture - self.mean) / self.std


def rescale_robust(patch: Tensor, minimum_range: float = 1e-2) -> Tensor:
    """Rescales (B, C, H, W) to 0..1 by the 0.5 and 99.5 percentiles; 3 channels share theirs."""
    batch, channels = patch.shape[:2]
    groups = patch.reshape(batch, 1 if channels == 3 else channels, -1)
    count = groups.shape[-1]
    # kthvalue selects in linear time and has no limit on the size, unlike quantile.
    low = groups.kthvalue(1 + round(0.005 * (count - 1)), dim=-1, keepdim=True).values
    high = groups.kthvalue(1 + round(0.995 * (count - 1)), dim=-1, keepdim=True).values
    return ((groups - low) / (high - low).clamp(min=minimum_range)).clamp(0, 1).reshape(patch.shape)


def to_three_channels(image: Tensor) -> Tensor:
    """Maps (B, C, H, W) to (B, 3, H, W), or (B, 1, H, W) for C = 1, to be expanded where it costs nothing."""
    channels = image.shape[1]
    if channels in (1, 3):
        return image
    if channels == 2:
        return torch.cat((image, image.mean(dim=1, keepdim=True)), dim=1)
    return torch.cat([group.mean(dim=1, keepdim=True) for group in image.tensor_split(3, dim=1)], dim=1)


def resize_tensor(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (B, C, H, W) bilinearly, anti-aliased along axes that shrink; exact identity where sizes agree."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    shrinks = image.shape[-2] > size[0] or image.shape[-1] > size[1]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


WeightsKind = Literal["random", "official", "custom"]
_KINDS: tuple[WeightsKind, ...] = ("random", "official", "custom")


@dataclass(frozen=True)
class Provenance:
    """Origin of an encoder's weights.

    Attributes:
        kind: "official" (MobileSAM's own file), "custom" (another file that fits, e.g. fine-tuned) or "random".
        sha256: of the file, 64 hexadecimal digits; of the tensors' bytes where the weights are random.
    """

    kind: WeightsKind
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


class ImageEncoder(nn.Module):
    """The frozen part of a branch as one module, for OpenVINO to compile.

    Maps (B, 1 or 3, S, S), as `SAMBranch.prepare.picture` makes it, to (B, 256, S/16, S/16).
    """

    def __init__(self, branch: SAMBranch):
        super().__init__()
        self.branch = branch

    def forward(self, picture: Tensor) -> Tensor:
        """Returns the embedding."""
        return self.branch.embed(picture)


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
