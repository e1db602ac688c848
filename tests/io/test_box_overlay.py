"""Pictures of objects in boxes: a colour and a number each, seen on any ground, and a legend."""

import numpy as np
import pytest

from nnsam.io.overlay import COLORS, FILL, LARGEST_SIDE, DrawnObject, color_of, draw_segmentation

BOX = np.array([100, 300, 200, 450])


def disc(box):
    """An ellipse that fills a box."""
    sides = np.array(box[len(box) // 2 :]) - box[: len(box) // 2]
    grid = np.meshgrid(*((np.arange(side) + 0.5 - side / 2) / (side / 2) for side in sides), indexing="ij")
    return sum(axis**2 for axis in grid) <= 1


def drawn(picture, color):
    return (picture == color).all(axis=-1)


def draw(image, *boxes, captions=()):
    captions = captions or [""] * len(boxes)
    objects = [DrawnObject(np.array(box), disc(box), caption) for box, caption in zip(boxes, captions, strict=True)]
    return draw_segmentation(image, objects)


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_box_and_contour_have_the_objects_colour_with_a_dark_rim_on_any_ground(ground):
    picture = draw(np.full((600, 700), ground, np.uint8), BOX)[:600]
    lines = drawn(picture, COLORS[0])
    # two pixels wide in a picture of this size: dark, colour, dark, and then the box
    assert lines[96:98, 296:454].all()
    assert not lines[94:96].any()
    assert (picture[94:96, 294:456] == 0).all()
    assert (picture[98:100, 298:452] == 0).all()
    mask = np.zeros((600, 700), bool)
    mask[100:200, 300:450] = disc(BOX)
    inside = lines & mask
    from scipy import ndimage

    core, edge = ndimage.binary_erosion(mask, np.ones((5, 5))), mask & ~ndimage.binary_erosion(mask)
    assert inside[edge].mean() > 0.9  # the number covers some
    fill = np.round(ground + FILL * (np.array(COLORS[0]) - ground))
    deep = ndimage.binary_erosion(core, np.ones((31, 31)))
    assert (picture[deep] == fill).all()
    outside = np.ones((600, 700), bool)
    outside[94:206, 294:456] = False
    assert (picture[outside] == ground).all()


def test_each_object_has_a_colour_and_another_number():
    boxes = [[50, 50 + 60 * index, 90, 90 + 60 * index] for index in range(8)]
    picture = draw(np.full((512, 600), 128, np.uint8), *boxes)[:512]
    for index, (y0, x0, y1, x1) in enumerate(boxes):
        place = picture[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3]
        assert drawn(place, color_of(index + 1)).sum() > 100
    first, again = (picture[45:95, 45 + 60 * index : 95 + 60 * index] for index in (0, 7))
    assert color_of(1) == color_of(8)
    assert (first != again).any()  # 1 and 8


def test_lines_stay_visible_at_the_images_edge():
    picture = draw(np.full((512, 512), 200, np.uint8), [0, 0, 512, 512])[:512]
    lines = drawn(picture, COLORS[0])
    for line in (lines[1], lines[-2], lines[:, 1], lines[:, -2]):
        assert line[1:-1].all()


def test_small_pictures_are_enlarged_and_large_ones_thinned():
    assert draw(np.zeros((1, 1), np.uint8), [0, 0, 1, 1])[:512].shape == (512, 512, 3)
    large = draw(np.zeros((3000, 4100), np.uint8), [300, 900, 600, 1200])
    assert large.shape[1] <= LARGEST_SIDE
    found = drawn(large[:1000], COLORS[0])
    rows, columns = np.nonzero(found)
    assert abs(rows.min() - 100) <= 6
    assert abs(columns.max() - 400) <= 6


def test_volumes_show_slices_of_the_boxes_and_only_boxes_that_are_there():
    image = np.zeros((40, 512, 512), np.int16)
    image[:, :40] = 50
    sheet = draw(image, [10, 100, 100, 22, 200, 200], [20, 300, 300, 22, 400, 400])[: 2 * 512 + 4]
    assert sheet.shape == (2 * 512 + 4, 3 * 512 + 8, 3)
    tiles = [sheet[row : row + 512, column : column + 512] for row in (0, 516) for column in (0, 516, 1032)]
    assert all(drawn(tile, COLORS[0])[98, 100:200].all() for tile in tiles)  # slices 11, 13, ..., 21
    assert [bool(drawn(tile, COLORS[1])[298, 300:400].any()) for tile in tiles] == [False] * 5 + [True]
    assert draw(image, [7, 0, 0, 8, 5, 5])[:512].shape == (512, 512, 3)


def test_the_legend_names_each_object_in_its_colour():
    image = np.zeros((512, 512), np.uint8)
    boxes = [[10, 10, 60, 60], [100, 100, 160, 160]]
    bare, named = draw(image, *boxes), draw(image, *boxes, captions=["label 1, 3 ml", "label 9, 5 ml"])
    legend = named[512:]
    assert legend.shape[1:] == (512, 3)
    assert all(drawn(legend, color).sum() > 100 for color in COLORS[:2])
    assert not drawn(legend, COLORS[2]).any()
    assert (named[:512] == bare[:512]).all()
    light = legend.astype(int).min(axis=-1) > 200
    assert light.sum() > 2 * (bare[512:].astype(int).min(axis=-1) > 200).sum()
    many = draw(image, *[[10, 10, 60, 60]] * 300)
    assert many.shape[0] < 512 + 1000


def test_empty_masks_and_overlapping_objects_are_drawn():
    image = np.zeros((512, 512), np.uint8)
    box = np.array([100, 100, 200, 200])
    empty = draw_segmentation(image, [DrawnObject(box, np.zeros((100, 100), bool))])
    assert drawn(empty[:512], COLORS[0])[98, 110:190].all()
    both = draw(image, [100, 100, 300, 300], [150, 150, 200, 200])[:512]
    assert drawn(both, COLORS[0]).any()
    assert drawn(both, COLORS[1]).any()


def test_colour_volumes_and_inputs_left_alone():
    image = np.random.default_rng(0).normal(size=(3, 20, 30, 3))
    before = image.copy()
    assert draw(image, [0, 0, 0, 3, 20, 30]).shape[1] == 3 * 17 * 30 + 8
    np.testing.assert_array_equal(image, before)


def test_numbers_are_white_on_black_over_their_own_fill():
    picture = draw(np.full((512, 512), 90, np.uint8), [100, 100, 400, 400])[:512]
    number = drawn(picture, (255, 255, 255))
    assert number.sum() > 10
    rows, columns = np.nonzero(number)
    dark = drawn(picture[rows.min() - 2 : rows.max() + 3, columns.min() - 2 : columns.max() + 3], (0, 0, 0))
    assert dark[0].any()
    assert dark[-1].any()
    assert dark[:, 0].any()
    assert dark[:, -1].any()
