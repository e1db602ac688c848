"""Where PyTorch computes: one choice for all commands."""

from typing import TYPE_CHECKING

from nnsam.errors import InputError

if TYPE_CHECKING:
    import torch

# What commands take.
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: "str | torch.device", mps: bool = True) -> "torch.device":
    """Returns a device of PyTorch.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", a device, or "auto": a GPU of NVIDIA's, else one of Apple's where it
            works, else the CPU.
        mps: whether "auto" takes one of Apple's: not for 3D networks, some of whose operations PyTorch lacks there,
            and not for training, which has not been tried there.

    Raises:
        InputError: unknown, or not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in DEVICES:
        raise InputError(f"the device {name!r} is unknown; expected cpu, cuda, mps or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"the device {name!s} was asked for, but PyTorch finds no GPU here; use cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"the device {name!s} was asked for, but PyTorch finds none of Apple's here; use cpu or auto")
    return device


def training_device(name: str) -> str:
    """Returns the name of the device to train on, as nnU-Net's option -device takes it; see `choose_device`."""
    return choose_device(name, mps=False).type
