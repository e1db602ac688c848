import numpy as np

from nnsam.io.overlay import COLORS, LARGEST_SIDE, LINE_COLORS, draw_segmentation

GREEN, ON_BLACK, ON_GREEN = LINE_COLORS


def drawn(picture, color):
    return (picture == color).all(axis=-1)


def test_lines_run_just_outside_the_box_and_the_mask_is_filled():
    image = np.zeros((600, 700), np.uint8)
    labels = np.zeros((600, 700), np.uint8)
    labels[100:200, 300:450] = 1
    picture = draw_segmentation(image, labels, np.array([[100, 300, 200, 450]]))
    expected = np.zeros(image.shape, bool)
    expected[98:202, 298:452] = True  # two pixels wide in a picture of this size
    expected[100:200, 300:450] = False
    np.testing.assert_array_equal(drawn(picture, ON_BLACK), expected)
    assert (picture[labels == 1] == np.round(0.4 * np.array(COLORS[0]))).all()
    assert (picture[(labels == 0) & ~expected] == 0).all()


def test_lines_stay_visible_at_the_images_edge():
    picture = draw_segmentation(
        np.zeros((512, 512), np.uint8), np.zeros((512, 512), np.uint8), np.array([[0, 0, 512, 512]])
    )
    lines = drawn(picture, ON_BLACK)
    assert lines[0].all()
    assert lines[-1].all()
    assert lines[:, 0].all()
    assert lines[:, -1].all()
    assert not lines[1:-1, 1:-1].any()


def test_the_line_contrasts_with_the_image():
    image = np.zeros((512, 512, 3), np.uint8)
    image[:] = GREEN
    picture = draw_segmentation(image, np.zeros((512, 512), np.uint8), np.array([[100, 100, 200, 200]]))
    assert drawn(picture, ON_GREEN).any()
    assert not drawn(picture, ON_BLACK).any()


def test_small_pictures_are_enlarged_and_large_ones_thinned():
    small = draw_segmentation(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8), np.array([[0, 0, 1, 1]]))
    assert small.shape == (512, 512, 3)
    labels = np.zeros((3000, 4100), np.uint8)
    labels[300:600, 900:1200] = 1
    large = draw_segmentation(np.zeros((3000, 4100), np.uint8), labels, np.array([[300, 900, 600, 1200]]))
    assert max(large.shape) <= LARGEST_SIDE
    rows, columns = np.nonzero((large > 0).any(axis=-1))
    assert abs(rows.min() - 100) <= 4
    assert abs(columns.max() - 400) <= 4


def test_volumes_show_slices_of_the_boxes_and_only_boxes_that_are_there():
    image = np.zeros((40, 512, 512), np.int16)
    image[:, :40] = 50
    labels = np.zeros(image.shape, np.uint8)
    boxes = np.array([[10, 100, 100, 22, 200, 200], [20, 300, 300, 22, 400, 400]])
    labels[10:22, 100:200, 100:200] = 1
    sheet = draw_segmentation(image, labels, boxes)
    assert sheet.shape == (2 * 512 + 4, 3 * 512 + 8, 3)
    tiles = [sheet[row : row + 512, column : column + 512] for row in (0, 516) for column in (0, 516, 1032)]
    assert all(drawn(tile, ON_BLACK)[99, 100:200].all() for tile in tiles)  # slices 11, 13, ..., 21
    assert [bool(drawn(tile, ON_BLACK)[299, 300:400].any()) for tile in tiles] == [False] * 5 + [True]
    flat = draw_segmentation(image, labels, np.array([[7, 0, 0, 8, 5, 5]]))
    assert flat.shape == (512, 512, 3)


def test_colour_volumes_and_inputs_left_alone():
    image = np.random.default_rng(0).normal(size=(3, 20, 30, 3))
    labels = np.zeros((3, 20, 30), np.uint16)
    before = image.copy()
    assert draw_segmentation(image, labels, np.array([[0, 0, 0, 3, 20, 30]])).shape[1] == 3 * 17 * 30 + 8
    np.testing.assert_array_equal(image, before)
