import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError, NnsamWarning
from nnsam.prompts.convention import check_boxes


def test_good_boxes_become_half_open_in_array_order():
    assert check_boxes([[2, 1, 5, 2], [0, 0, 6, 4]], (5, 7)).tolist() == [[1, 2, 3, 6], [0, 0, 5, 7]]
    assert check_boxes([2, 1, 2, 1], (5, 7)).tolist() == [[1, 2, 2, 3]]
    assert check_boxes(np.array([4, 3, 2, 9, 8, 7.0]), (10, 10, 10)).tolist() == [[2, 3, 4, 8, 9, 10]]


@pytest.mark.parametrize(
    ("boxes", "shape", "says"),
    [
        ([], (5, 7), "no box"),
        ([[1, 1, 2]], (5, 7), "found 3 values per box, expected 4"),
        ([[1, 1, 2, 2]], (3, 5, 7), "z_min"),
        ([[1, 1, 1, 2, 2, 2]], (5, 7), "without z"),
        ([[1, 1, float("nan"), 2]], (5, 7), "finite"),
        ([[1, 1, float("inf"), 2]], (5, 7), "finite"),
        ([[1, 1, 2.5, 2]], (5, 7), "whole"),
        ([[3, 1, 2, 2]], (5, 7), "x_min > x_max"),
        ([[1, 3, 2, 2]], (5, 7), "y_min > y_max"),
        ([[-1, 1, 2, 2]], (5, 7), "its x runs from 0 to 6"),
        ([[1, 1, 8, 2]], (5, 7), "its x runs from 0 to 6"),
        ([[1, 1, 2, 6]], (5, 7), "its y runs from 0 to 4"),
        ([[7, 1, 7, 2]], (5, 7), "its x runs from 0 to 6"),
        ([[0, 0, 100, 100]], (5, 7), "reaches beyond"),
        ([["a", 1, 2, 2]], (5, 7), "all numbers"),
        ([[1, 1, 2, 2], [1, 1, 2]], (5, 7), "all numbers"),
        ("1,1,2,2", (5, 7), "all numbers"),
        ([[True, 1, 2, 2]], (5, 7), "all numbers"),
        ([["1", "1", "2", "2"]], (5, 7), "all numbers"),
        (np.array([[True, True, True, True]]), (5, 7), "all numbers"),
        (3, (5, 7), "all numbers"),
        (None, (5, 7), "all numbers"),
        ([[0, 0, 2, 2], [5, 0, 4, 2]], (5, 7), "box 2"),
    ],
)
def test_bad_boxes_get_one_sentence(boxes, shape, says):
    with pytest.raises(InputError, match=says) as caught:
        check_boxes(boxes, shape, "boxes.json")
    assert "boxes.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*one pixel beyond the image:nnsam.errors.NnsamWarning")
@given(st.lists(st.integers(-3, 12), min_size=4, max_size=4))
def test_a_box_passes_exactly_if_it_holds_pixels_of_the_image_only(box):
    x0, y0, x1, y1 = box
    fits = 0 <= x0 <= x1 < 7 and 0 <= y0 <= y1 < 5
    is_half_open = 0 <= x0 <= x1 <= 7 and 0 <= y0 <= y1 <= 5 and x0 < 7 and y0 < 5
    try:
        checked = check_boxes([box], (5, 7))
    except InputError:
        assert not fits
        assert not is_half_open
    else:
        assert fits or is_half_open
        assert checked.tolist() == [[y0, x0, min(y1 + 1, 5), min(x1 + 1, 7)]]


def test_boxes_that_end_at_the_size_are_told_once():
    with pytest.warns(NnsamWarning, match=r"boxes\.json: 2 of 3 boxes end one pixel beyond") as caught:
        boxes = check_boxes([[2, 1, 7, 3], [0, 0, 6, 4], [0, 0, 3, 5]], (5, 7), "boxes.json")
    assert len(caught) == 1
    assert boxes.tolist() == [[1, 2, 4, 7], [0, 0, 5, 7], [0, 0, 5, 4]]
    with pytest.warns(NnsamWarning, match="1 of 1 boxes end one pixel beyond"):
        assert check_boxes([[0, 0, 0, 3, 3, 4]], (4, 5, 6)).tolist() == [[0, 0, 0, 4, 4, 4]]
