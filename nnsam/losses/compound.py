"""nnU-Net's segmentation loss together with the level-set loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnsam.losses.level_set import LevelSetLoss

# Regression loss of a constant below which targets have no boundaries worth the name.
_NEARLY_CONSTANT = 1e-3


class SegmentationAndLevelSetLoss(nn.Module):
    """Sum of a segmentation loss on all elements but the last, and a level-set loss on the last.

    Made for ``trainer.loss``: nnU-Net passes the network's output and the target as lists under deep supervision; the
    level-set head and :class:`nnsam.training.transforms.AppendSignedDistance` append one element to each.

    The parts of every call are summed on the device of the loss without synchronising with it; :meth:`pop_means` does
    so once. Training and validation calls count alike: pop in between to tell them apart. The sums are no buffers, so
    they do not enter a checkpoint.

    Args:
        segmentation_loss: Called with two sequences of the same length, as nnU-Net's ``DeepSupervisionWrapper`` is.
        level_set_loss: Called with the two last elements, each (B, K, H, W).

    Example:
        >>> segmentation_loss = lambda output, target: (output[0] - target[0]).abs().mean()
        >>> loss = SegmentationAndLevelSetLoss(segmentation_loss, LevelSetLoss())
        >>> ones = torch.ones(1, 1, 16, 16)
        >>> loss([3 * ones, ones], [ones, ones]).item()
        2.0
        >>> loss.pop_means()
        {'segmentation': 2.0, 'level_set': 0.0, 'curvature': 0.0}
    """

    def __init__(self, segmentation_loss: nn.Module, level_set_loss: LevelSetLoss):
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.level_set_loss = level_set_loss
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def forward(self, output: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """Returns the scalar total.

        Args:
            output: Logits from fine to coarse, then the predicted level set (B, K, H, W).
            target: Segmentations from fine to coarse, then the true level set (B, K, H, W).
        """
        if isinstance(output, Tensor) or isinstance(target, Tensor) or not len(output) == len(target) >= 2:
            raise ValueError(
                f"Output ({_describe(output)}) and target ({_describe(target)}) must be lists of equal length, "
                "segmentations first and the level set last; is deep supervision off?"
            )
        segmentation = self.segmentation_loss(output[:-1], target[:-1])
        terms = self.level_set_loss(output[-1], target[-1])
        total = segmentation + terms.total
        self._record(
            segmentation=segmentation, level_set=terms.regression, curvature=terms.curvature, constant=terms.constant
        )
        return total

    def pop_means(self) -> dict[str, float]:
        """Returns the unweighted means since the last call and starts anew; empty if there was no forward pass.

        Keys: ``segmentation`` (nnU-Net's loss), ``level_set`` (regression), ``curvature`` (1/pixel), and
        ``level_set_share``, the regression divided by what it were if each class's map were its own mean everywhere:
        a head that has learnt nothing but a constant has 1. It is left out where the targets are nearly constant.
        """
        means: dict[str, float] = {}
        if self._count:
            values = (torch.stack(list(self._sums.values())) / self._count).tolist()  # one synchronisation
            means = dict(zip(self._sums, values, strict=True))
            constant = means.pop("constant")
            if not constant < _NEARLY_CONSTANT:  # also NaN, which has to be seen
                means["level_set_share"] = means["level_set"] / constant
        self._sums, self._count = {}, 0
        return means

    @torch.no_grad()
    def _record(self, **parts: Tensor) -> None:
        for name, value in parts.items():
            value = value.detach().double() if value.device.type == "cpu" else value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1


def _describe(value: Sequence[Tensor] | Tensor) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} of {len(value)}"
