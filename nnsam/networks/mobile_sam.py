"""MobileSAM's image encoder: TinyViT-5M with a stride of 16 and SAM's neck.

Papers: Zhang et al., "Faster Segment Anything" (arXiv 2306.14289); Wu et al., "TinyViT" (arXiv 2207.10666).
The transformer is timm's; what MobileSAM changes is the stride of the last stage and the neck.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import LayerNorm2d
from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn

from nnsam.errors import InputError, WeightsError

if TYPE_CHECKING:
    import torch


PREFIX = "image_encoder."

# The classification head of TinyViT: in the official file, used by nothing.
UNUSED = re.compile(r"^(norm_head|head)\.(weight|bias)$")
# Index table that some versions of the official code store as a buffer; it follows from the window size.
DERIVED = re.compile(r"\.attention_bias_idxs$")


def timm_name(official_name: str) -> str:
    """Translates one key of the official encoder, without ``image_encoder.``, to :class:`MobileSAMEncoder`'s.

    Example:
        >>> timm_name("layers.0.downsample.conv1.c.weight")
        'backbone.stages.1.downsample.conv1.conv.weight'
        >>> timm_name("neck.0.weight")
        'neck.0.weight'
    """
    if official_name.startswith("neck."):
        return official_name
    name = re.sub(r"\.c\.", ".conv.", official_name)
    name = re.sub(r"^patch_embed\.seq\.0\.", "patch_embed.conv1.", name)
    name = re.sub(r"^patch_embed\.seq\.2\.", "patch_embed.conv2.", name)
    name = re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.downsample.", name)
    name = re.sub(r"^layers\.(\d+)\.", r"stages.\1.", name)
    return f"backbone.{name}"


def encoder_state(tensors: Mapping[str, "torch.Tensor"], source: str = "the checkpoint") -> dict[str, "torch.Tensor"]:
    """Picks and renames the encoder's tensors; every key and every shape has to fit.

    Args:
        tensors: a whole MobileSAM checkpoint, or its image encoder alone (without the prefix ``image_encoder.``).
        source: what to call the checkpoint in messages.

    Returns:
        A state dict for :class:`nnsam.networks.MobileSAMEncoder`.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape.
    """
    if any(key.startswith(PREFIX) for key in tensors):
        tensors = {key[len(PREFIX) :]: value for key, value in tensors.items() if key.startswith(PREFIX)}
    state = {
        timm_name(key): value for key, value in tensors.items() if not UNUSED.search(key) and not DERIVED.search(key)
    }
    shapes = expected_shapes()
    missing = [key for key in shapes if key not in state]
    unknown = [key for key in state if key not in shapes]
    misshapen = [key for key in shapes if key in state and tuple(state[key].shape) != shapes[key]]
    if missing or unknown or misshapen:
        problems = [
            f"{len(keys)} {kind} (first: {keys[0]})"
            for kind, keys in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
            if keys
        ]
        raise WeightsError(
            f"{source} is not a MobileSAM (vit_t) image encoder: of {len(shapes)} expected tensors, "
            f"{', '.join(problems)}; use MobileSAM's mobile_sam.pt or a fine-tuned encoder of the same architecture"
        )
    return state


def load_encoder_state(path: str | Path) -> dict[str, "torch.Tensor"]:
    """Reads a checkpoint file (with ``weights_only=True``) and returns its encoder's state dict.

    Raises:
        WeightsError: the file is missing, damaged, unsafe to load, or of another model.
    """
    from nnsam.weights.checkpoint import read_tensors

    return encoder_state(read_tensors(path), source=str(path))


STRIDE = 16
EMBEDDING_CHANNELS = 256
# timm's stages halve the resolution after the patch embedding up to 1/16 and, before MobileSAM's change, 1/32.
SIZE_MULTIPLE = 32


class MobileSAMEncoder(nn.Module):
    """Frozen image encoder: (B, 3, H, W) SAM-normalised image -> (B, 256, H/16, W/16) embedding.

    H and W are any multiples of 32 (SAM's own size is 1024). "Frozen" means: no parameter asks for a gradient, and
    :meth:`train` leaves every layer in evaluation mode, so that the 27 BatchNorm layers keep their statistics.
    SAM normalisation (RGB 0..255, mean and standard deviation) is :class:`nnsam.networks.SAMInput`'s job.

    Example:
        >>> encoder = MobileSAMEncoder.random(seed=0)
        >>> encoder(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 256, 4, 6])
    """

    def __init__(self):
        super().__init__()
        backbone: Any = TinyVit(
            in_chans=3,
            num_classes=0,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        backbone.head = nn.Identity()
        backbone.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.backbone = backbone
        self.neck = nn.Sequential(
            nn.Conv2d(320, EMBEDDING_CHANNELS, kernel_size=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS, eps=1e-6),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS, eps=1e-6),
        )
        # timm caches the gathered attention biases in evaluation mode; weights loaded later would not be seen.
        self.register_load_state_dict_post_hook(_clear_cache)
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "MobileSAMEncoder":
        """Builds the encoder from MobileSAM's official ``mobile_sam.pt`` or a fine-tuned one of the same keys.

        Raises:
            WeightsError: the file is missing, damaged, unsafe to load, or of another model.
        """
        encoder = cls()
        encoder.load_state_dict(load_encoder_state(path), strict=True)
        return encoder

    @classmethod
    def random(cls, seed: int = 0) -> "MobileSAMEncoder":
        """Builds the encoder with random weights that depend on `seed` alone; a control, not a SAM encoder.

        Layers get the scale-preserving He initialisation, so that the embedding varies with the image (timm's own
        initialisation sets the last BatchNorm of each residual block to zero, which blocks those branches).
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
            encoder = cls()
            for module in encoder.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.ones_(module.weight)
                elif isinstance(module, Attention):
                    nn.init.normal_(module.attention_biases, std=0.02)
        return encoder

    def forward(self, image: Tensor) -> Tensor:
        """Encodes (B, 3, H, W) to (B, 256, H/16, W/16); H and W are multiples of 32."""
        if image.ndim != 4 or image.shape[1] != 3 or any(side % SIZE_MULTIPLE or not side for side in image.shape[2:]):
            raise InputError(
                f"the MobileSAM encoder takes images of shape (B, 3, H, W) with H and W multiples of {SIZE_MULTIPLE}; "
                f"found {tuple(image.shape)}"
            )
        return self.neck(self.backbone.forward_features(image))

    def train(self, mode: bool = True) -> "MobileSAMEncoder":
        """Stays in evaluation mode whatever `mode` says: BatchNorm statistics are part of the frozen weights."""
        return super().train(False)

    def clear_cache(self) -> None:
        """Forgets values that timm derives from the weights; needed after changing weights in place."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.attention_bias_cache = {}


def _clear_cache(encoder: Any, _: object) -> None:
    encoder.clear_cache()


@lru_cache(maxsize=1)
def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor of the encoder."""
    with torch.device("meta"):
        encoder = MobileSAMEncoder()
    return {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
