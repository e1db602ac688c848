"""Checkpoints that nnU-Net's trainers wrote, read without running code from them."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from nnsam.errors import InputError

# How PyTorch's files begin, those of before version 1.6 last.
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_ENTRIES = {"network_weights": dict, "init_args": dict, "trainer_name": str}


def read_nnunet_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that nnU-Net's trainer wrote, without running code from it (``weights_only=True``).

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of nnU-Net v2.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a checkpoint of nnU-Net, e.g. fold_0/checkpoint_final.pth")
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); give yourself the right") from None
    if start != _ZIP and not start.startswith(_PICKLE):
        raise InputError(
            f"{path} cannot be read as a checkpoint of nnU-Net: it is no checkpoint of PyTorch; give a "
            f"checkpoint_*.pth that nnUNetv2_train wrote"
        )
    # What nnU-Net puts into its log beside plain Python values: numpy scalars.
    core = np._core if hasattr(np, "_core") else np.core
    allowed: list[Any] = [core.multiarray.scalar, np.dtype]
    allowed += [type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64")]
    try:
        with torch.serialization.safe_globals(allowed):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for files that are no checkpoints
        reason = _reason(error)
        raise InputError(
            f"{path} cannot be read as a checkpoint of nnU-Net: {reason}; give a checkpoint_*.pth "
            f"that nnUNetv2_train wrote"
        ) from error
    found = checkpoint if isinstance(checkpoint, dict) else {}
    wrong = [name for name, kind in _ENTRIES.items() if not isinstance(found.get(name), kind)]
    if wrong:
        raise InputError(f"{path} is no checkpoint of nnU-Net v2: it lacks {', '.join(sorted(wrong))}")
    if not all(isinstance(value, torch.Tensor) for value in found["network_weights"].values()):
        raise InputError(f"{path} is no checkpoint of nnU-Net v2: its network_weights are no tensors")
    return found


def _reason(error: Exception) -> str:
    """Why a file is not loaded; PyTorch's own text advises to load it anyway, which would run what is in it."""
    text = str(error).strip() or type(error).__name__
    if "weights_only" not in text and "Weights only" not in text:
        return text.splitlines()[0]
    found = re.search(r"GLOBAL ([\w.]+)|global ([\w.]+)", text)
    name = next(filter(None, found.groups()), "") if found else ""
    return f"it holds {name[:80] or 'objects'}, which could run code and is in no checkpoint of nnU-Net"
