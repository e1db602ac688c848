"""Reads tensors from a PyTorch file without running code that the file may contain."""

import builtins
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import WeightsError
from nnsam.support.text import shown

if TYPE_CHECKING:
    import torch

# Where training scripts put the weights among optimizer state and epoch numbers.
_WRAPPERS = ("model", "state_dict")

# How PyTorch's restricted unpickler names what it refuses; "class" was the wording up to 2.3.
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported class) (\w+(?:\.\w+)*)")


def read_tensors(path: str | os.PathLike[str], prefix: str = "") -> "dict[str, torch.Tensor]":
    """Reads named tensors, also where they lie under `model` or `state_dict` as fine-tuning scripts write them.

    Args:
        path: A file written by `torch.save`.
        prefix: Only names that start with it are returned, without it.

    Returns:
        Tensors on the CPU by name, in the file's order. They may be backed by the file itself: copy them (as
        `load_state_dict` does) if they are to outlive it.

    Raises:
        WeightsError: The file is missing, truncated, no PyTorch file, would run code, or holds no named tensors.
    """
    path = Path(path).expanduser()
    tensors = _named_tensors(_load(path), path)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(path: Path) -> Any:
    import torch

    if not os.path.isfile(path):
        raise WeightsError(f"{path} is {'a folder' if path.is_dir() else 'missing'}, expected a checkpoint file")
    try:
        # Only the zip format, the default since PyTorch 1.6, can be mapped instead of read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        # Built-in functions are named without a module; other such names are what a truncated file breaks off in.
        if refused is None or not ("." in refused[1] or hasattr(builtins, refused[1])):
            raise _unreadable(path) from error
        raise WeightsError(
            f"{path} was refused because loading it would run code (it asks for {refused[1]}): save only "
            "the tensors, with torch.save(model.state_dict(), path)"
        ) from error
    except PermissionError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    # A damaged file fails wherever the first wrong byte leads to; there is no narrower common type.
    except Exception as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} ({path.stat().st_size:,} bytes) is truncated or not a PyTorch checkpoint: expected a file written by "
        "torch.save(model.state_dict(), path)"
    )


def _named_tensors(content: Any, path: Path) -> "dict[str, torch.Tensor]":
    import torch

    if isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        mapping = inner[0] if len(inner) == 1 else content
        if mapping and all(isinstance(key, str) for key in mapping):
            others = sorted(key for key, value in mapping.items() if not isinstance(value, torch.Tensor))
            if not others:
                return dict(mapping)
            found = f"a mapping in which {shown(others[0])} is a {type(mapping[others[0]]).__name__}"
        else:
            found = "a mapping without names" if mapping else "an empty mapping"
    else:
        found = f"a {type(content).__name__}"
    raise WeightsError(f"{path} holds {found}, expected a mapping of names to tensors (a state_dict)")
