import numpy as np
import pytest

from nnsam.io.image import to_eight_bit, to_rgb


def test_eight_bit_images_stay():
    image = np.array([[3, 90], [0, 7]], np.uint8)
    np.testing.assert_array_equal(to_eight_bit(image), image)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64])
def test_percentiles_of_the_voxels_that_are_not_zero(dtype):
    image = np.concatenate([np.zeros(500), np.arange(1, 1002)]).astype(dtype)  # percentiles 6 and 996 of 1..1001
    result = to_eight_bit(image)
    assert result.dtype == np.uint8
    expected = np.clip((np.arange(1, 1002) - 6) / 990 * 255, 0, 255)
    np.testing.assert_allclose(result[500:], np.floor(expected), atol=1)
    assert not result[:500].any()


def test_zero_is_background_only_where_nothing_is_negative():
    assert to_eight_bit(np.array([0, 100, 300], np.int16))[0] == 0
    assert 100 < to_eight_bit(np.array([-100, 0, 100, 0], np.int16))[1] < 150


@pytest.mark.parametrize(
    ("image", "expected"),
    [(np.zeros(3), [0, 0, 0]), (np.array([0.0, 5, 5]), [0, 255, 255]), (np.array([True, False]), [255, 0])],
)
def test_constant_images(image, expected):
    assert to_eight_bit(image).tolist() == expected


def test_grey_is_repeated_and_colour_stays():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colour = to_rgb(grey, False)
    assert colour.shape == (2, 3, 3)
    assert all((colour[..., channel] == grey).all() for channel in range(3))
    assert to_rgb(colour, True) is colour
