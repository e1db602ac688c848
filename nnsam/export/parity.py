"""How far an exported model is from the trained one: logits in float32, masks in lower precisions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

# Largest accepted |difference| of a logit between OpenVINO and PyTorch, both in float32. Rounding grows with the
# logits: where their root mean square is above 1, as in networks that are sure of themselves, it is relative to that.
TOLERANCE = 1e-3


@dataclass
class LogitDifference:
    """Differences of logits, gathered over any number of patches.

    Attributes:
        max: the largest absolute difference; infinite where one side has NaN.
        total: sum of the absolute differences.
        squares: sum of the squared differences.
        reference_squares: sum of the squared reference logits.
        count: number of logits.
    """

    max: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    reference_squares: float = 0.0
    count: int = 0

    def add(self, reference: NDArray, found: NDArray) -> None:
        """Takes in the logits of one patch; both arrays have the same shape.

        Raises:
            InputError: the shapes differ.
        """
        if reference.shape != found.shape:
            raise InputError(
                f"the exported network gives logits of the shape {found.shape}, PyTorch {reference.shape}; the network "
                f"cannot be exported"
            )
        difference = np.abs(found.astype(np.float64) - reference)
        largest = float(difference.max())
        self.max = max(self.max, largest if np.isfinite(largest) else np.inf)
        self.total += float(difference.sum())
        self.squares += float(np.square(difference).sum())
        self.reference_squares += float(np.square(reference, dtype=np.float64).sum())
        self.count += difference.size

    @property
    def mean(self) -> float:
        """Mean absolute difference."""
        return self.total / self.count

    @property
    def relative(self) -> float:
        """Root-mean-square difference relative to the root mean square of the reference."""
        return float(np.sqrt(self.squares / self.reference_squares)) if self.reference_squares else 0.0

    @property
    def tolerance(self) -> float:
        """The largest difference that is accepted, in units of the logits."""
        scale = float(np.sqrt(self.reference_squares / self.count)) if self.count else 0.0
        return TOLERANCE * max(1.0, scale) if np.isfinite(scale) else TOLERANCE

    def check(self, what: str) -> None:
        """Raises InputError where the largest difference is more than the tolerance."""
        if not self.max <= self.tolerance:
            raise InputError(
                f"{what}: OpenVINO's logits in float32 differ from PyTorch's by up to {self.max:.2g} (relative "
                f"{self.relative:.1g}), more than {self.tolerance:.2g}, so nothing was exported; try another "
                f"version of OpenVINO, and report this with the versions of `nnsam doctor`"
            )


@dataclass
class MaskAgreement:
    """Dice between the masks of two computations, per class, gathered over any number of patches.

    Voxels are pooled over the patches, so that a few voxels of a class at the rim of one patch do not rule the mean.

    Attributes:
        has_regions: outputs are overlapping regions, each over a threshold of its own.
    """

    has_regions: bool = False
    _common: NDArray = field(default_factory=lambda: np.zeros(1))
    _sizes: NDArray = field(default_factory=lambda: np.zeros(1))

    def add(self, reference: NDArray, found: NDArray) -> None:
        """Takes in two arrays of logits (B, O, ...)."""
        first, second = (hard_masks(logits, self.has_regions) for logits in (reference, found))
        axes = (0, *range(2, first.ndim))
        self._common = self._common + 2 * np.count_nonzero(first & second, axis=axes)
        self._sizes = self._sizes + np.count_nonzero(first, axis=axes) + np.count_nonzero(second, axis=axes)

    @property
    def classes(self) -> int:
        """Number of foreground classes that were found by either."""
        return int(np.count_nonzero(self._sizes))

    @property
    def dice(self) -> float | None:
        """Mean over the classes found; None where there are none, which says nothing about the agreement."""
        present = self._sizes > 0
        return float((self._common[present] / self._sizes[present]).mean()) if present.any() else None


def hard_masks(logits: NDArray, has_regions: bool) -> NDArray[np.bool_]:
    """Returns the foreground masks of logits (B, O, ...): (B, O, ...) of regions, (B, O - 1, ...) of labels."""
    if has_regions:
        return logits > 0
    chosen = logits.argmax(axis=1)
    return np.stack([chosen == label for label in range(1, logits.shape[1])], axis=1)


def worst(values: Sequence[float | None]) -> float | None:
    """Returns the smallest of the numbers, None where there is no number."""
    known = [value for value in values if value is not None]
    return min(known) if known else None
