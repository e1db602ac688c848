"""Reads the image encoder out of a MobileSAM checkpoint, under the key names of timm's TinyViT.

The official checkpoint (ChaoningZhang/MobileSAM, ``weights/mobile_sam.pt``) names its 302 image encoder tensors
``image_encoder.*``. timm builds the same network under other names: MobileSAM puts the down-sampling convolutions at
the end of a stage, timm at the beginning of the next one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.errors import WeightsError

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
    from nnsam.networks.mobile_sam import expected_shapes

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
