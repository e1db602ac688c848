import numpy as np
import pytest
from helpers.shapes import assert_turns_along, blobs, disk, grid

from nnsam.geometry import level_set_target, signed_distance, squash
from nnsam.geometry.signed_distance import UNSEEN_TOLERANCE


def test_without_ignored_pixels_it_is_the_squashed_distance():
    mask = blobs(96)
    expected = squash(signed_distance(mask), 3.0)
    for ignored in (None, np.zeros_like(mask)):
        target = level_set_target(mask, ignored, band=3.0)
        np.testing.assert_allclose(target, expected, atol=1 - np.tanh(4))
        np.testing.assert_array_equal(
            target[np.abs(signed_distance(mask)) <= 12], expected[abs(expected) <= np.tanh(4)]
        )


def test_whatever_an_ignored_area_hides_known_targets_move_less_than_the_tolerance():
    random = np.random.default_rng(0)
    truth = disk(20, 96) < 0
    y, x = grid(96)
    ignored = (np.hypot(y - 48, x - 70) < 12) | (np.hypot(y - 10, x - 10) < 5)
    target = level_set_target(truth, ignored, band=8.0)
    known = ~np.isnan(target)
    assert not known[ignored].any()
    assert 0.4 < known.mean() < 1 - ignored.mean()
    for share in (0, 0.02, 0.5, 1):
        hidden = np.where(ignored, random.random(truth.shape) < share, truth)
        possible = squash(signed_distance(hidden), 8.0)
        assert np.abs(possible - target)[known].max() < UNSEEN_TOLERANCE + 1e-3


def test_keeps_what_lies_nearer_to_a_known_boundary_or_far_from_everything():
    mask = np.zeros((1, 120), dtype=bool)
    mask[:, 30:50] = True
    ignored = np.zeros_like(mask)
    ignored[:, 60:70] = True
    target = level_set_target(mask, ignored, band=4.0)[0]
    assert np.isfinite(target[:54]).all()  # boundary at 49.5, ignored area from 59.5: the middle is 54.5
    assert np.isnan(target[57:74]).all()
    assert (target[100:] == 1).all()


@pytest.mark.parametrize("full", [False, True])
def test_empty_or_full_elsewhere_is_known_far_from_the_ignored_area_only(full):
    mask = np.full((1, 60), full)
    ignored = np.zeros_like(mask)
    ignored[:, :5] = True
    target = level_set_target(mask, ignored, band=4.0)[0]
    assert np.isnan(target[:10]).all()
    assert (target[20:] == (-1 if full else 1)).all()


def test_all_ignored_is_all_unknown():
    assert np.isnan(level_set_target(blobs(), np.ones((48, 48), bool))).all()


def test_classes_share_one_ignored_area_and_turn_along():
    masks = np.stack([blobs(seed=1), blobs(seed=2)])
    ignored = np.zeros((48, 48), bool)
    ignored[5:12, 20:31] = True
    both = level_set_target(masks, ignored)
    assert both.shape == masks.shape
    for mask, target in zip(masks, both, strict=True):
        np.testing.assert_array_equal(target, level_set_target(mask, ignored))
    stacked = np.concatenate([masks, ignored[None]])
    assert_turns_along(lambda a: level_set_target(a[:2], a[2]), stacked, tolerance=0)
    assert ignored.sum() == 77
