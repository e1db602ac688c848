import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.metrics import dice

EMPTY, FULL = np.zeros((4, 5), bool), np.ones((4, 5), bool)


def test_half_overlapping_stripes():
    first, second = EMPTY.copy(), EMPTY.copy()
    first[:, 0:2] = True
    second[:, 1:3] = True
    assert dice(first, second) == 0.5
    assert dice(second, first) == 0.5
    assert dice(first, first) == 1.0


def test_empty_masks():
    assert np.isnan(dice(EMPTY, EMPTY))
    assert dice(EMPTY, FULL) == dice(FULL, EMPTY) == 0.0


def test_volumes_and_large_counts():
    volume = np.ones((3, 300, 300), bool)  # more voxels than small integer types hold
    assert dice(volume, volume) == 1.0


@pytest.mark.parametrize(
    ("prediction", "reference", "words"),
    [
        (EMPTY.astype(np.uint8), EMPTY, r"prediction must be a boolean array.*uint8"),
        (EMPTY, [[True]], "reference must be a boolean array.*list"),
        (EMPTY, EMPTY[:2], r"\(4, 5\) and \(2, 5\)"),
        (EMPTY[0], EMPTY[0], "2 or 3 dimensions"),
    ],
)
def test_bad_masks_are_named(prediction, reference, words):
    with pytest.raises(InputError, match=words):
        dice(prediction, reference)
