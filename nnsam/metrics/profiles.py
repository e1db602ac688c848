"""Named sets of scoring rules: from the masks of one case to its scores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.metrics.classes import Classes, classes_from_values
from nnsam.metrics.masks import CaseMasks, Mask, dice
from nnsam.metrics.surface import surface_dice, surface_distances

NSD_TOLERANCE = 2.0
MIN_MEAN_DICE = 0.2
DIGITS = 4


def challenge_classes(reference: NDArray[np.integer]) -> Classes:
    """The labels 1..max of a reference, each a class of its own; none if it is empty."""
    highest = int(reference.max(initial=0))  # as a Python integer: 255 + 1 does not fit into uint8
    return classes_from_values(set(range(1, highest + 1)))


def challenge_scores(case: CaseMasks) -> dict[str, dict[str, float]]:
    """DSC and NSD of every label of one case, not rounded; see the module.

    Returns:
        label -> {"DSC", "NSD"}, 0..1 or nan where neither side has the label. All NSD are 0 if the mean DSC is not
        above 0.2.
    """
    overlaps = {label: dice(prediction, reference) for label, prediction, reference in case}
    if not _mean(list(overlaps.values())) > MIN_MEAN_DICE:
        return {label: {"DSC": overlap, "NSD": 0.0} for label, overlap in overlaps.items()}
    return {
        label: {"DSC": overlaps[label], "NSD": _surface_dice(prediction, reference, case.spacing)}
        for label, prediction, reference in case
    }


def challenge_case_score(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The score of one case from those of its labels: plain means, rounded; nan DSC and NSD 0 without any label."""
    overlap = _mean([score["DSC"] for score in scores])
    surface = _mean([score["NSD"] for score in scores]) if overlap > MIN_MEAN_DICE else 0.0
    return {"DSC": float(np.round(overlap, DIGITS)), "NSD": float(np.round(surface, DIGITS))}


def _surface_dice(prediction: Mask, reference: Mask, spacing: tuple[float, ...]) -> float:
    if prediction.ndim == 2:
        return surface_dice(prediction[..., None], reference[..., None], (1.0, 1.0, 1.0), tolerance=NSD_TOLERANCE)
    # Back in the file's order (x, y, z), although the axes of the masks are (z, y, x): as the challenge does it.
    return surface_dice(prediction, reference, spacing[::-1], tolerance=NSD_TOLERANCE)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


#: What empty masks and distances mean here, for the reader of scores.
LEGACY_RULES = (
    "a total miss has Dice 0 and ASD 0; a class that is not in the reference has ASD 0, and Dice 1 if it was predicted "
    "(else 0); ASD from prediction to reference only"
)


def legacy_scores(case: CaseMasks) -> dict[str, dict[str, float]]:
    """Scores every class of a case: DSC in 0..1 and ASD in pixels, never nan."""
    return {label: _score(prediction, reference) for label, prediction, reference in case}


def _score(prediction: Mask, reference: Mask) -> dict[str, float]:
    if prediction.any() and reference.any():
        return {"DSC": dice(prediction, reference), "ASD": directed_distance(prediction, reference)}
    return {"DSC": float(prediction.any()), "ASD": 0.0}


def directed_distance(prediction: Mask, reference: Mask) -> float:
    """Mean distance of the prediction's border pixels to the reference's nearest one, in pixels, as MedPy's `asd`.

    A mask's border are its pixels with a neighbour, along an axis, outside the mask or the image.

    Args:
        prediction: boolean, (H, W) or (D, H, W), not empty.
        reference: boolean, of the same shape, not empty.
    """
    from scipy import ndimage

    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference)]
    return float(ndimage.distance_transform_edt(~borders[1])[borders[0]].mean())


Scores = dict[str, float]


@dataclass(frozen=True)
class ScoringOptions:
    """What the user can choose within the profile `standard`; other profiles have these defaults.

    Attributes:
        tolerance: of NSD, in units of the spacing.
        empty: "nan" or "worst", see `average_surface_distance`.
    """

    tolerance: float = NSD_TOLERANCE
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
            f"The {name} profile has fixed rules (where it has NSD, a tolerance of {NSD_TOLERANCE:g}); leave out "
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
