"""The scores that nnSAM's authors published code for, for comparison with their tables and nothing else.

Source: `evaluation.py` of Kent0n-Li/Medical-Image-Segmentation (commit 0852728), which calls MedPy. Against the field's
conventions it

- measures the distance in one direction only, from the prediction's border to the reference's, in pixels;
- gives a class that was missed altogether the ASD 0, the best there is, beside Dice 0;
- gives a class that is not in the reference but was predicted Dice 1 and ASD 0, and one that is in neither Dice 0.
"""

from nnsam.metrics.case_masks import CaseMasks
from nnsam.metrics.masks import Mask
from nnsam.metrics.overlap import dice

#: What empty masks and distances mean here, for the reader of scores.
RULES = (
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
