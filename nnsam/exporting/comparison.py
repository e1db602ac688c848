"""Runs a network in PyTorch and its exports in OpenVINO on the same patches, turn by turn; compares and times them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nnsam.errors import InputError
from nnsam.exporting.conversion import sam_input
from nnsam.inference.engine import Engine
from nnsam.nnunet.model_folder import sam_branch
from nnsam.support.openvino import cpu_precisions

# Largest accepted |difference| of a logit between OpenVINO and PyTorch, both in float32. Rounding grows with the
# logits: where their root mean square is above 1, as in networks that are sure of themselves, it is relative to that.
LOGIT_TOLERANCE = 1e-3


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
        return LOGIT_TOLERANCE * max(1.0, scale) if np.isfinite(scale) else LOGIT_TOLERANCE

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


# Smallest Dice agreement with float32 that `auto` accepts.
DICE_AGREEMENT = 0.995
# A fused network has to be faster by this share, since it cannot reuse an image's embedding.
FUSED_GAIN = 0.05


@dataclass(frozen=True)
class MeasuredPrecision:
    """A precision as measured.

    Attributes:
        dice: agreement of masks with float32's, 0..1; None where no structure was found in the patches.
        seconds: per patch, all networks together.
        max_difference: of logits, largest absolute one; to PyTorch for f32, to OpenVINO f32 for the others.
        mean_difference: likewise, mean.
    """

    dice: float | None
    seconds: float
    max_difference: float = 0.0
    mean_difference: float = 0.0

    @property
    def accepted(self) -> bool:
        """Tells whether `auto` may choose it."""
        return self.dice is not None and self.dice >= DICE_AGREEMENT


@dataclass(frozen=True)
class Choice:
    """The precision to use, and a sentence that says why."""

    precision: str
    reason: str

    def as_dict(self, candidates: Mapping[str, MeasuredPrecision]) -> dict[str, Any]:
        """Section `precision` of the bundle's manifest."""
        return {
            "auto": self.precision,
            "reason": self.reason,
            "candidates": {
                name: {**asdict(candidate), "accepted": candidate.accepted} for name, candidate in candidates.items()
            },
        }


def choose(wanted: str, candidates: Mapping[str, MeasuredPrecision], note: str = "") -> Choice:
    """Chooses a precision.

    Args:
        wanted: "auto", or the precision to take whatever was measured.
        candidates: by precision; "f32" is among them.
        note: what else there is to say, a clause.

    Raises:
        InputError: `wanted` was not made.
    """
    if wanted != "auto":
        if wanted not in candidates:
            raise InputError(f"the precision {wanted} was not made; there are {', '.join(candidates)}")
        return Choice(wanted, f"{wanted} was asked for{_shortfall(wanted, candidates[wanted])}")
    fit = {name: candidate for name, candidate in candidates.items() if name == "f32" or candidate.accepted}
    best = min(fit, key=lambda name: fit[name].seconds)
    return Choice(best, "; ".join([_reason(best, candidates), *([note] if note else [])]))


def fused_is_faster(two_seconds: float, fused_seconds: float) -> bool:
    """Tells whether one network for both parts is faster than the two by more than :data:`FUSED_GAIN`."""
    return fused_seconds < (1 - FUSED_GAIN) * two_seconds


def _reason(best: str, candidates: Mapping[str, MeasuredPrecision]) -> str:
    f32 = candidates["f32"]
    if best != "f32":
        chosen = candidates[best]
        text = (
            f"{best} is the fastest precision whose masks agree with float32's (Dice {chosen.dice:.4f}, at least "
            f"{DICE_AGREEMENT}), {f32.seconds / chosen.seconds:.1f} times as fast as float32"
        )
    elif len(candidates) == 1:
        text = "float32 is the only precision that was measured"
    else:
        text = "float32 is the fastest precision that qualifies"
    rejected = [
        f"{name} was not taken{_shortfall(name, candidate)}"
        for name, candidate in candidates.items()
        if name != "f32" and not candidate.accepted
    ]
    return "; ".join([text, *rejected])


def _shortfall(name: str, candidate: MeasuredPrecision) -> str:
    if name == "f32" or candidate.accepted:
        return ""
    if candidate.dice is None:
        return " (no structure was found in the calibration patches, so masks could not be compared: give --images)"
    return f" (Dice with float32 {candidate.dice:.4f}, below {DICE_AGREEMENT})"


Run = Callable[[NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.float32]]

# Patches that PyTorch computes too, by the dimensions of a patch; it is the slowest of all.
PYTORCH_PATCHES: Mapping[int, int] = {2: 8, 3: 4}
# The first turn of each network is warming up.
TURNS = 7


@dataclass
class Measured:
    """Results of one fold's networks.

    Attributes:
        differences: logits of "f32" to PyTorch, and of the other precisions to OpenVINO f32.
        agreements: masks of each precision but f32 to OpenVINO f32.
        seconds: per patch, of "pytorch" and of each precision; the best turn.
    """

    differences: dict[str, LogitDifference] = field(default_factory=dict)
    agreements: dict[str, MaskAgreement] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkFiles:
    """The IR files that compute one fold in one precision.

    Attributes:
        unet: patch (and embedding) -> logits; or patch and picture -> logits if `fused`.
        encoder: picture -> embedding, None where there is none.
        fused: `unet` is the fused network, `encoder` is not used.
    """

    unet: Path
    encoder: Path | None = None
    fused: bool = False


def pictures_of(network: nn.Module, patches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32] | None]:
    """Returns what the SAM branch's encoder sees of each patch; None without a branch."""
    branch = sam_branch(network)
    if branch is None:
        return [None] * len(patches)
    with torch.no_grad():
        return [branch.prepare.picture(sam_input(network, torch.from_numpy(patch))).numpy() for patch in patches]


def pytorch_logits(network: nn.Module, patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the trained network's logits in float32."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return network(torch.from_numpy(patch)).numpy()


def float_precisions() -> tuple[str, ...]:
    """Returns the floating-point precisions that this CPU computes in hardware: f32 and, on some, bf16."""
    return tuple(name for name in ("f32", "bf16") if name in cpu_precisions())


@dataclass(frozen=True)
class Workbench:
    """Runs, compares and times exported networks.

    Attributes:
        precisions: floating-point precisions to measure; "f32" is among them.
        seconds: turns for timing end after so many seconds.
    """

    precisions: tuple[str, ...] = field(default_factory=float_precisions)
    seconds: float = 2.0

    def open(self, files: NetworkFiles, precision: str) -> Run:
        """Opens files; returns a function of patch and picture that gives logits.

        Args:
            files: the networks.
            precision: "f32", "bf16" or, of int8 files, "int8".
        """
        engine = Engine(precision)  # the runtime's: what is compared and timed is what will be used
        unet = engine.compile(files.unet)
        encoder = engine.compile(files.encoder) if files.encoder is not None and not files.fused else None

        def run(patch: NDArray[np.float32], picture: NDArray[np.float32] | None) -> NDArray[np.float32]:
            inputs = [patch]
            if files.fused:
                assert picture is not None
                inputs.append(picture)
            elif encoder is not None:
                assert picture is not None
                inputs.append(encoder(picture))
            return unet(*inputs)

        return run

    def best_seconds(self, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        """Times calls turn by turn; returns the best time of each."""
        clock = _Clock()
        clock.turns(calls, self.seconds)
        return clock.best

    def measure(
        self, network: nn.Module, runs: Mapping[str, Run], patches: Sequence[NDArray[np.float32]], has_regions: bool
    ) -> Measured:
        """Compares and times one fold.

        Args:
            network: the fold's network in PyTorch.
            runs: by precision; "f32" is the reference of the masks.
            patches: (1, C, *patch) each, or with prompts.
            has_regions: the outputs are regions.
        """
        result = Measured(
            {name: LogitDifference() for name in runs},
            {name: MaskAgreement(has_regions) for name in runs if name != "f32"},
        )
        clock = _Clock()
        with_pytorch = set(_spread(len(patches), PYTORCH_PATCHES[patches[0].ndim - 2]))
        for index, patch in enumerate(patches):
            picture = pictures_of(network, [patch])[0]
            reference = clock("f32", lambda: runs["f32"](patch, picture))  # noqa: B023 - called at once
            if index in with_pytorch:
                trained = clock("pytorch", lambda: pytorch_logits(network, patch))  # noqa: B023
                result.differences["f32"].add(trained, reference)
            for name, agreement in result.agreements.items():
                found = clock(name, lambda: runs[name](patch, picture))  # noqa: B023
                agreement.add(reference, found)
                result.differences[name].add(reference, found)
        calls: dict[str, Callable] = {name: lambda run=run: run(patch, picture) for name, run in runs.items()}
        clock.turns({**calls, "pytorch": lambda: pytorch_logits(network, patch)}, self.seconds)
        result.seconds = clock.best
        return result


class _Clock:
    """Keeps the best time of each name; the first call of each counts only where it is the only one."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}
        self._calls: dict[str, int] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        self._calls[name] = self._calls.get(name, 0) + 1
        self.best[name] = seconds if self._calls[name] <= 2 else min(self.best[name], seconds)
        return result

    def turns(self, calls: Mapping[str, Callable[[], Any]], seconds: float) -> None:
        """Calls everything again and again, in turns, at most for so many seconds after the first turn's start."""
        end = time.perf_counter() + seconds
        for turn in range(TURNS):
            if turn and time.perf_counter() > end:
                return
            for name, call in calls.items():
                self(name, call)


def _spread(length: int, count: int) -> list[int]:
    """Returns at most `count` indices, spread evenly over the length."""
    return sorted({int(index) for index in np.linspace(0, length - 1, min(length, count)).round()})
