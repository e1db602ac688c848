"""Named sets of scoring rules for one class of one case."""

from collections.abc import Callable
from dataclasses import dataclass

from nnsam.metrics.masks import Mask
from nnsam.metrics.overlap import dice
from nnsam.metrics.surface import surface_distances


@dataclass(frozen=True)
class ScoringOptions:
    """What the user can choose within a profile.

    Attributes:
        tolerance: of NSD, in units of the spacing.
        empty: "nan" or "worst", see `average_surface_distance`.
    """

    tolerance: float = 2.0
    empty: str = "nan"


def standard_scores(
    prediction: Mask, reference: Mask, spacing: tuple[float, ...], options: ScoringOptions
) -> dict[str, float]:
    """DSC, ASD, HD95 and NSD as `nnsam.metrics` defines them."""
    distances = surface_distances(prediction, reference, spacing)
    return {
        "DSC": dice(prediction, reference),
        "ASD": distances.average(options.empty),
        "HD95": distances.robust_hausdorff(95, options.empty),
        "NSD": distances.dice(options.tolerance),
    }


# Profile name -> rules. All profiles give the same score names, or the summary's columns are those that they give.
PROFILES: dict[str, Callable[[Mask, Mask, tuple[float, ...], ScoringOptions], dict[str, float]]] = {
    "standard": standard_scores,
}
