import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnsam.geometry.boxes import sides
from nnsam.prompts.sampling import BoxJitter

SHAPE = (60, 80)


@st.composite
def boxes(draw):
    y0, x0 = draw(st.integers(0, 59)), draw(st.integers(0, 79))
    return np.array([y0, x0, draw(st.integers(y0 + 1, 60)), draw(st.integers(x0 + 1, 80))])


@given(boxes(), st.integers(0, 2**32 - 1))
def test_a_dilated_box_contains_the_box_and_stays_in_the_image(box, seed):
    changed = BoxJitter(dilation=0.3, exact=0)(box, SHAPE, np.random.default_rng(seed))
    assert (changed[:2] <= box[:2]).all()
    assert (changed[2:] >= box[2:]).all()
    assert (changed[:2] >= 0).all()
    assert (changed[2:] <= SHAPE).all()
    assert (np.abs(changed - box) <= 0.3 * np.tile(sides(box), 2) + 0.5).all()


@given(boxes(), st.integers(0, 2**32 - 1))
def test_any_jitter_leaves_a_box_of_whole_pixels_in_the_image(box, seed):
    changed = BoxJitter(dilation=0.5, erosion=0.6, shift=0.8, exact=0)(box, SHAPE, np.random.default_rng(seed))
    assert (sides(changed) >= 1).all()
    assert (changed[:2] >= 0).all()
    assert (changed[2:] <= SHAPE).all()
    assert (changed == np.rint(changed)).all()


def test_it_is_reproducible_and_keeps_a_share_as_it_is():
    jitter, box = BoxJitter(exact=0.25), np.array([10, 10, 50, 60])
    draws = [jitter(box, SHAPE, rng) for rng in [np.random.default_rng(3)] for _ in range(2000)]
    again = [jitter(box, SHAPE, rng) for rng in [np.random.default_rng(3)] for _ in range(2000)]
    assert np.array_equal(draws, again)
    unchanged = np.mean([(draw == box).all() for draw in draws])
    assert 0.2 < unchanged < 0.32


def test_eroded_boxes_are_smaller_and_shifted_ones_keep_their_size():
    box = np.array([10, 10, 50, 60])
    for seed in range(50):
        eroded = BoxJitter(dilation=0, erosion=0.2, exact=0)(box, SHAPE, np.random.default_rng(seed))
        assert (sides(eroded) <= sides(box)).all()
        shifted = BoxJitter(dilation=0, shift=0.1, exact=0)(box, SHAPE, np.random.default_rng(seed))
        assert (sides(shifted) == sides(box)).all()
