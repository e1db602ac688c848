"""Named sets of scoring rules: from the masks of one case to its scores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.metrics.case_masks import CaseMasks
from nnsam.metrics.challenge import TOLERANCE, challenge_case_score, challenge_classes, challenge_scores
from nnsam.metrics.classes import Classes
from nnsam.metrics.legacy import legacy_scores
from nnsam.metrics.overlap import dice
from nnsam.metrics.surface import surface_distances

Scores = dict[str, float]


@dataclass(frozen=True)
class ScoringOptions:
    """What the user can choose within the profile `standard`; other profiles have these defaults.

    Attributes:
        tolerance: of NSD, in units of the spacing.
        empty: "nan" or "worst", see `average_surface_distance`.
    """

    tolerance: float = TOLERANCE
    empty: str = "nan"


@dataclass(frozen=True)
class Profile:
    """One set of rules.

    Attributes:
        score: scores every class of a case; class name -> score name -> value, nan where undefined.
        case_score: a case's scores from those of its classes, of which there may be none.
        score_names: names of the scores, in the order of the columns.
        own_classes: gives the classes of a case from its reference, whatever dataset.json says; None: no such rule.
        pictures_in_pixels: pictures are measured in pixels, whatever their spacing.
        always_in_pixels: volumes are so, too.
        fixed_options: the options cannot be changed.
    """

    score: Callable[[CaseMasks, ScoringOptions], dict[str, Scores]]
    case_score: Callable[[Sequence[Scores]], Scores]
    score_names: tuple[str, ...]
    own_classes: Callable[[NDArray[np.integer]], Classes] | None = None
    pictures_in_pixels: bool = False
    always_in_pixels: bool = False
    fixed_options: bool = False


def find_profile(name: str, options: ScoringOptions) -> Profile:
    """Returns a profile by its name.

    Raises:
        InputError: unknown, or with options that it does not have.
    """
    if name not in PROFILES:
        raise InputError(f"Unknown profile {name!r}; known: {', '.join(PROFILES)}.")
    if PROFILES[name].fixed_options and options != ScoringOptions():
        raise InputError(
            f"The {name} profile has fixed rules (where it has NSD, a tolerance of {TOLERANCE:g}); leave out "
            "--tolerance and --empty, or use the standard profile."
        )
    return PROFILES[name]


def standard_scores(case: CaseMasks, options: ScoringOptions) -> dict[str, Scores]:
    """DSC, ASD, HD95 and NSD of every class, as `nnsam.metrics` defines them."""
    scores = {}
    for label, prediction, reference in case:
        distances = surface_distances(prediction, reference, case.spacing)
        scores[label] = {
            "DSC": dice(prediction, reference),
            "ASD": distances.average(options.empty),
            "HD95": distances.robust_hausdorff(95, options.empty),
            "NSD": distances.dice(options.tolerance),
        }
    return scores


def mean_of_defined(scores: Sequence[Scores]) -> Scores:
    """Mean of each score over the classes in which it is defined, nan where it is in none."""
    names = scores[0] if scores else PROFILES["standard"].score_names
    columns = {name: [score[name] for score in scores if not math.isnan(score[name])] for name in names}
    return {name: sum(values) / len(values) if values else float("nan") for name, values in columns.items()}


PROFILES: dict[str, Profile] = {
    "standard": Profile(standard_scores, mean_of_defined, ("DSC", "ASD", "HD95", "NSD")),
    "challenge": Profile(
        lambda case, _: challenge_scores(case),
        challenge_case_score,
        ("DSC", "NSD"),
        own_classes=challenge_classes,
        pictures_in_pixels=True,
        fixed_options=True,
    ),
    "legacy": Profile(
        lambda case, _: legacy_scores(case),
        mean_of_defined,
        ("DSC", "ASD"),
        always_in_pixels=True,
        fixed_options=True,
    ),
}
