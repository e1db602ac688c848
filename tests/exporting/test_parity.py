import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.exporting.comparison import LogitDifference, MaskAgreement, hard_masks, worst


def test_differences_are_gathered_over_patches():
    difference = LogitDifference()
    difference.add(np.full((1, 2, 4), 2.0, np.float32), np.full((1, 2, 4), 2.5, np.float32))
    difference.add(np.full((1, 2, 4), -2.0, np.float32), np.full((1, 2, 4), -2.0, np.float32))
    assert (difference.max, difference.mean) == (0.5, 0.25)
    assert difference.relative == pytest.approx(np.sqrt(0.125) / 2)


@pytest.mark.parametrize(("error", "passes"), [(0.0009, True), (0.0011, False), (np.nan, False), (np.inf, False)])
def test_one_logit_beyond_the_tolerance_fails(error, passes):
    reference = np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    found = reference.copy()
    found[0, 1, 2, 3] += error
    difference = LogitDifference()
    difference.add(reference, found)
    if passes:
        difference.check("fold 0")
    else:
        with pytest.raises(InputError, match="nothing was exported"):
            difference.check("fold 0")


@pytest.mark.parametrize(("scale", "tolerance"), [(0.1, 1e-3), (1.0, 1e-3), (20.0, 2e-2)])
def test_the_tolerance_grows_with_large_logits_only(scale, tolerance):
    reference = np.full((1, 2, 4), scale)
    difference = LogitDifference()
    difference.add(reference, reference + 0.9 * tolerance)
    assert difference.tolerance == pytest.approx(tolerance)
    difference.check("fold 0")
    difference.add(reference, reference + 1.1 * tolerance)
    with pytest.raises(InputError, match="nothing was exported"):
        difference.check("fold 0")


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="shape"):
        LogitDifference().add(np.zeros((1, 2, 4)), np.zeros((1, 2, 5)))


def logits(labels, outputs=3):
    return np.moveaxis(10.0 * np.eye(outputs)[np.asarray(labels)], -1, 1)


def test_dice_is_the_mean_over_the_classes_that_were_found():
    agreement = MaskAgreement()
    assert agreement.dice is None
    agreement.add(logits([[0, 0]]), logits([[0, 0]]))
    assert agreement.dice is None
    agreement.add(logits([[1, 1, 1, 1]]), logits([[1, 1, 1, 0]]))
    assert agreement.dice == pytest.approx(6 / 7)
    agreement.add(logits([[2, 2]]), logits([[2, 2]]))
    assert agreement.dice == pytest.approx((6 / 7 + 1) / 2)
    agreement.add(logits([[1] * 100]), logits([[1] * 100]))
    assert agreement.dice == pytest.approx((206 / 207 + 1) / 2)


def test_regions_overlap():
    first = np.array([[[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]])
    np.testing.assert_array_equal(hard_masks(first, has_regions=True), first > 0)
    agreement = MaskAgreement(has_regions=True)
    agreement.add(first, np.array([[[1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]]))
    assert agreement.dice == pytest.approx((2 / 3 + 1) / 2)


def test_the_worst_of_the_folds_counts():
    assert worst([0.9, None, 0.8]) == 0.8
    assert worst([None]) is None
