"""MobileSAM checkpoints with random content: the key names of the official file, seeded as the fixtures are."""

import copy
import re
import zlib
from functools import cache

import numpy as np
import torch

from nnsam.networks import mobile_sam
from nnsam.networks.mobile_sam import expected_shapes

# Tensors that the official file holds and the encoder does not use.
HEAD = {"norm_head.weight": (320,), "norm_head.bias": (320,), "head.weight": (1000, 320), "head.bias": (1000,)}
OTHERS = {"prompt_encoder.no_mask_embed.weight": (1, 256), "mask_decoder.iou_token.weight": (1, 256)}


def official_name(timm_name: str) -> str:
    """The inverse of `nnsam.networks.mobile_sam.timm_name`, written independently of it."""
    if timm_name.startswith("neck."):
        return timm_name
    name = timm_name.removeprefix("backbone.").replace(".conv.", ".c.")
    name = name.replace("patch_embed.conv1.", "patch_embed.seq.0.").replace("patch_embed.conv2.", "patch_embed.seq.2.")
    stage = re.match(r"stages\.(\d+)\.(.*)", name)
    if stage is None:
        return name
    down = stage[2].startswith("downsample.")
    return f"layers.{int(stage[1]) - down}.{stage[2]}"


def seeded(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor of a checkpoint key, by the rules in shared/fixtures/README.md."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    a = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        a = np.abs(a) * 0.2 + 0.8
    elif key.endswith("running_mean"):
        a = a * 0.1
    elif ".bn." in key or "norm" in key or "neck.1." in key or "neck.3." in key:
        a = 1 + 0.1 * a if key.endswith("weight") else 0.1 * a
    elif key.endswith(("bias", "attention_biases")):
        a = 0.1 * a
    else:
        a = a / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(a, dtype=np.float32))


@cache
def checkpoint_tensors() -> dict[str, torch.Tensor]:
    """A whole checkpoint: the encoder under its official names, its unused head, something of the other two parts.

    The same object in each call: not to be changed.
    """
    shapes = {f"image_encoder.{official_name(name)}": shape for name, shape in expected_shapes().items()}
    shapes |= {f"image_encoder.{name}": shape for name, shape in HEAD.items()} | OTHERS
    return {key: seeded(key, shape) for key, shape in shapes.items()}


@cache
def _initialised_tiny_vit() -> mobile_sam.TinyVit:
    torch.manual_seed(0)
    return mobile_sam.MobileSAMEncoder().backbone


def skip_initialisation(patch) -> None:
    """Makes new encoders copies of one: timm's initialisation takes a good part of a second.

    Their convolutions still follow the seed of :meth:`MobileSAMEncoder.random`, all else is alike in all of them.
    """
    ready = _initialised_tiny_vit()
    patch.setattr(mobile_sam, "TinyVit", lambda **_: copy.deepcopy(ready))
