"""The scoring rules of the challenge "Segment Anything in Medical Images on Laptop" (CVPR 2024), as they were run.

They follow the challenge's script evaluation/compute_metrics.py (github.com/bowang-lab/MedSAM, branch LiteMedSAM) in
everything that changes a figure, doubtful choices included, so that figures can be laid beside published ones:

- The labels of a case are 1 to the reference's highest value. A value between that neither side has scores nan in
  DSC, and so does the case. Predicted values above the highest one cost nothing.
- NSD has a tolerance of 2: millimetres in volumes, pixels in pictures, whatever spacing their file holds.
- The spacing of a volume, (x, y, z) in the file, goes unchanged to a function whose axes are (z, y, x). Where slices
  are thicker than pixels are wide, surfaces are therefore measured along the wrong axis.
- A picture is a volume of one slice, 1 thick. Both faces of the slice count as surface, so that the inside of an
  object, where prediction and reference agree, adds to its NSD.
- NSD is computed only if the mean DSC of the case is above 0.2, else it is 0 (also where that mean is nan).
- A case's score is the plain mean over its labels, rounded to 4 digits.

The profile `standard` has none of these quirks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.metrics.case_masks import CaseMasks
from nnsam.metrics.classes import Classes, classes_from_values
from nnsam.metrics.masks import Mask
from nnsam.metrics.overlap import dice
from nnsam.metrics.surface import surface_dice

TOLERANCE = 2.0
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
        return surface_dice(prediction[..., None], reference[..., None], (1.0, 1.0, 1.0), tolerance=TOLERANCE)
    # Back in the file's order (x, y, z), although the axes of the masks are (z, y, x): as the challenge does it.
    return surface_dice(prediction, reference, spacing[::-1], tolerance=TOLERANCE)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
