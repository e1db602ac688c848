"""Which precision a bundle uses by default: the fastest one whose masks agree with those of float32."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnsam.errors import InputError

# Smallest Dice agreement with float32 that `auto` accepts.
DICE_AGREEMENT = 0.995
# A fused network has to be faster by this share, since it cannot reuse an image's embedding.
FUSED_GAIN = 0.05
PRECISIONS = ("f32", "bf16", "int8")


@dataclass(frozen=True)
class Candidate:
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

    def as_dict(self, candidates: Mapping[str, Candidate]) -> dict[str, Any]:
        """Section `precision` of the bundle's manifest."""
        return {
            "auto": self.precision,
            "reason": self.reason,
            "candidates": {
                name: {**asdict(candidate), "accepted": candidate.accepted} for name, candidate in candidates.items()
            },
        }


def choose(wanted: str, candidates: Mapping[str, Candidate], note: str = "") -> Choice:
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


def _reason(best: str, candidates: Mapping[str, Candidate]) -> str:
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


def _shortfall(name: str, candidate: Candidate) -> str:
    if name == "f32" or candidate.accepted:
        return ""
    if candidate.dice is None:
        return " (no structure was found in the calibration patches, so masks could not be compared: give --images)"
    return f" (Dice with float32 {candidate.dice:.4f}, below {DICE_AGREEMENT})"
