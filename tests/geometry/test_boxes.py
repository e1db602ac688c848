import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.geometry.boxes import (
    box_of_mask,
    clip,
    expand,
    flip,
    rasterize,
    resize_boxes,
    shift,
    sides,
    slices,
    to_pixels,
)


@st.composite
def boxes_in_images(draw):
    """A shape and a box inside it, at least a pixel wide."""
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=3)))
    lower = [draw(st.integers(0, side - 1)) for side in shape]
    upper = [draw(st.integers(low + 1, side)) for low, side in zip(lower, shape, strict=True)]
    return shape, np.array([*lower, *upper])


@given(boxes_in_images())
def test_a_drawn_box_has_itself_as_its_box_and_its_volume_as_pixels(case):
    shape, box = case
    mask = rasterize(box, shape)
    assert box_of_mask(mask).tolist() == box.tolist()
    assert mask.sum() == np.prod(sides(box))
    assert mask[slices(box)].all()


@given(boxes_in_images(), st.data())
def test_a_box_moves_with_a_flipped_image_and_back(case, data):
    shape, box = case
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    flipped = flip(box, shape, sorted(axes))
    assert box_of_mask(np.flip(rasterize(box, shape), sorted(axes))).tolist() == flipped.tolist()
    assert flip(flipped, shape, sorted(axes)).tolist() == box.tolist()


@given(boxes_in_images(), st.data())
def test_a_box_moves_with_a_crop_that_holds_it_and_back(case, data):
    shape, box = case
    half = len(shape)
    origin = np.array([data.draw(st.integers(0, int(low))) for low in box[:half]])
    crop = rasterize(box, shape)[tuple(slice(int(low), None) for low in origin)]
    moved = shift(box, -origin)
    assert box_of_mask(crop).tolist() == moved.tolist()
    assert shift(moved, origin).tolist() == box.tolist()


@given(boxes_in_images(), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_box_survives_resizing_there_and_back(case, a, b, c):
    shape, box = case
    factors = np.array([a, b, c][: len(shape)])
    there = resize_boxes(box, factors)
    np.testing.assert_allclose(resize_boxes(there, 1 / factors), box, atol=1e-9)
    assert to_pixels(resize_boxes(there, 1 / factors)).tolist() == box.tolist()
    np.testing.assert_allclose(sides(there), sides(box) * factors)


@given(boxes_in_images(), st.floats(0, 20))
def test_whole_pixels_contain_the_box_and_clipping_keeps_it_in_the_image(case, margin):
    shape, box = case
    half = len(shape)
    larger = expand(box, margin)
    whole = to_pixels(larger)
    assert (whole[:half] <= larger[:half]).all() or np.allclose(whole[:half], larger[:half], atol=1e-5)
    cut = clip(whole, shape)
    assert (cut[:half] >= 0).all()
    assert (cut[half:] <= shape).all()
    assert (cut[:half] <= box[:half]).all()
    assert (cut[half:] >= box[half:]).all()


def test_arrays_of_boxes_and_inputs_left_alone():
    pair = np.array([[1, 2, 3, 6], [0, 0, 5, 6]])
    before = pair.copy()
    assert flip(pair, (5, 6), [0]).tolist() == [[2, 2, 4, 6], [0, 0, 5, 6]]
    assert sides(pair).tolist() == [[2, 4], [5, 6]]
    assert expand(pair, [1, 0]).tolist() == [[0, 2, 4, 6], [-1, 0, 6, 6]]
    clip(pair, (2, 2))
    assert (pair == before).all()


def test_a_box_beyond_the_image_becomes_empty():
    assert sides(clip([10, 10, 12, 12], (5, 6))).tolist() == [0, 0]


def test_rasterize_takes_pixels_by_their_centre():
    assert rasterize([0.4, 0.6, 1.4, 1.6], (2, 2)).tolist() == [[False, True], [False, False]]


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty"):
        box_of_mask(np.zeros((3, 3), bool))
