"""What all networks of this package have in common, whatever they are made of."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nnsam.errors import InputError
from nnsam.networks.level_set_head import LevelSetHead
from nnsam.networks.sam_branch import SAMBranch


class SegmentationNetwork(nn.Module):
    """A network that this package's trainers can train.

    Attributes:
        cpu_autocast: run the trainable part in bfloat16 on the CPU; see :mod:`nnsam.training.cpu_acceleration`.
        sam: the frozen branch, or None.
        level_set_head: the head for level sets, or None.
    """

    cpu_autocast = False
    sam: SAMBranch | None
    level_set_head: LevelSetHead | None

    def convolutional_parts(self) -> Iterable[nn.Module]:
        """Trainable modules that run quicker channels last; none by default."""
        return ()

    def autocast(self, patch: Tensor) -> AbstractContextManager:
        """Returns the context for the trainable part."""
        if self.cpu_autocast and patch.device.type == "cpu":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        return nullcontext()

    def refuse_nonfinite(self, patch: Tensor) -> None:
        """Raises InputError where a patch to predict has NaN or infinite values."""
        # One NaN pixel makes a whole prediction background without a word. Training checks on the CPU, before the
        # transfer to the device (nnsam.training), and needs no synchronisation here.
        if self.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        if not torch.isfinite(patch).all():
            raise InputError(
                "an image contains NaN or infinite values (found after nnU-Net's normalisation), so nothing can be "
                "predicted; expected finite intensities: replace these values in the image file"
            )
