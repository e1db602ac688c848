import numpy as np
import pytest

from nnsam.bench.cpu.rows import ROWS, TableRow, choose_rows, limit_slices, make_image, next_content
from nnsam.errors import InputError
from nnsam.prompts.convention import check_boxes

SMALL = (TableRow("a", (60, 80), 1), TableRow("b", (90, 70), 40), TableRow("c", (5, 60, 50), 6))


def test_the_table_is_complete():
    assert len(ROWS) == len({row.name for row in ROWS}) == 14
    assert sum(row.objects for row in ROWS) == 325  # the table's own total
    assert sum(row.is_volume for row in ROWS) == 7


def test_rows_are_chosen_by_the_beginning_of_their_names():
    assert [row.name for row in choose_rows(["ct", "US"])] == ["CT_0566", "CT_0888", "CT_0860", "US_0525"]
    assert choose_rows(None) == ROWS
    assert len(choose_rows(None, quick=True)) == 3
    for name in ("", "gastroscopy"):
        with pytest.raises(InputError, match="there is no row"):
            choose_rows(["ct", name])


@pytest.mark.parametrize("row", SMALL)
def test_images_have_the_size_and_boxes_of_the_row(row):
    made = make_image(row)
    assert made.image.dtype == np.uint8
    assert made.image.shape == (row.size if row.is_volume else (*row.size, 3))
    assert len(np.unique(made.boxes, axis=0)) == len(check_boxes(made.boxes, row.size)) == row.objects
    np.testing.assert_array_equal(made.image, make_image(row).image)
    assert (made.image != make_image(row, seed=1).image).any()
    assert 0 < made.image.mean() < 255


def test_boxes_of_volumes_reach_through_all_slices():
    made = make_image(SMALL[2])
    assert set(made.boxes[:, 2]) == {0}
    assert set(made.boxes[:, 5]) == {4}
    assert len({plane.tobytes() for plane in made.image}) == 5  # no slice is another's copy
    assert len(made.spacing) == 3


def test_objects_are_brighter_than_what_surrounds_them():
    made = make_image(TableRow("a", (60, 80), 1))
    x0, y0, x1, y1 = made.boxes[0]
    assert (x0, y0, x1, y1) == (16, 12, 63, 47)
    assert made.image[30, 40].mean() > made.image[5, 40].mean() + 20


def test_slices_are_limited_in_volumes_only():
    assert limit_slices(SMALL[2], 2).size == (2, 60, 50)
    assert limit_slices(SMALL[2], None) == limit_slices(SMALL[2], 9) == SMALL[2]
    assert limit_slices(SMALL[0], 2) == SMALL[0]


@pytest.mark.parametrize("row", SMALL)
def test_the_next_round_sees_the_same_pixels_elsewhere(row):
    image = make_image(row).image
    moved = next_content(image, 1)
    assert moved.shape == image.shape
    assert (moved != image).any()
    axis = 2 if row.is_volume else 1
    np.testing.assert_array_equal(np.moveaxis(moved, axis, 0)[1:], np.moveaxis(image, axis, 0)[:-1])
