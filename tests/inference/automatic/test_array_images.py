"""Axes and pixel sizes of images given as arrays."""

import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.inference.automatic.predictor import array_spacing, as_channels


@pytest.mark.parametrize(
    ("shape", "channels", "dimensions", "stacked", "result"),
    [
        ((5, 6), 1, 2, (1, 1, 5, 6), (5, 6)),
        ((3, 5, 6), 1, 2, (1, 3, 5, 6), (3, 5, 6)),
        ((3, 5, 6), 1, 3, (1, 3, 5, 6), (3, 5, 6)),
        ((1, 5, 6), 1, 2, (1, 1, 5, 6), (1, 5, 6)),
        ((3, 5, 6), 3, 2, (3, 1, 5, 6), (5, 6)),
        ((5, 6, 3), 3, 2, (3, 1, 5, 6), (5, 6)),
        ((2, 5, 6), 2, 2, (2, 1, 5, 6), (5, 6)),
        ((2, 4, 5, 6), 2, 3, (2, 4, 5, 6), (4, 5, 6)),
        ((1, 4, 5, 6), 1, 2, (1, 4, 5, 6), (4, 5, 6)),
        ((3, 1, 5, 3), 3, 2, (3, 1, 5, 3), (1, 5, 3)),
        ((5, 6, 1), 1, 2, (1, 1, 5, 6), (5, 6)),
        ((1, 5, 6, 3), 1, 3, (1, 5, 6, 3), (5, 6, 3)),
    ],
)
def test_layouts(shape, channels, dimensions, stacked, result):
    pixels, segmentation = as_channels(np.zeros(shape), channels, dimensions)
    assert pixels.shape == stacked
    assert segmentation == result


def test_colours_become_channels():
    image = np.arange(5 * 6 * 3).reshape(5, 6, 3)
    pixels, _ = as_channels(image, 3, 2)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[channel, 0], image[..., channel])


@pytest.mark.parametrize(
    ("shape", "channels", "dimensions", "words"),
    [
        ((5, 6), 3, 2, r"shape \(3, H, W\) or \(3, D, H, W\); found \(5, 6\)"),
        ((5, 6, 2), 2, 2, r"\(2, H, W\)"),
        ((3, 6, 3), 3, 2, r"either end .* \(3, 1, height, width\)"),
        ((2, 4, 5, 6), 1, 2, r"\(1, D, H, W\); found \(2, 4, 5, 6\)"),
        ((5,), 1, 2, r"found \(5,\)"),
        ((), 1, 2, r"found \(\)"),
        ((1, 1, 1, 5, 6), 1, 2, "found"),
        ((5, 6, 3), 1, 2, r"takes one channel; found the shape \(5, 6, 3\) of a picture in colour, so make it grey"),
        ((5, 6, 4), 1, 3, r"in colour, so make it grey; .* given as \(1, 5, 6, 4\)"),
        ((5, 6), 1, 3, "segments volumes; found a picture"),
        ((2, 5, 6), 2, 3, "segments volumes; found a picture"),
    ],
)
def test_what_does_not_fit(shape, channels, dimensions, words):
    with pytest.raises(InputError, match=words):
        as_channels(np.zeros(shape), channels, dimensions)


def settings(spacing, transpose=(0, 1, 2)):
    return {"spacing": list(spacing), "transpose_backward": [int(axis) for axis in np.argsort(transpose)]}


def test_spacing_of_the_model_is_brought_into_the_images_order():
    forward = (2, 0, 1)
    own = (3.0, 0.5, 0.7)
    spacing = array_spacing(None, False, settings(own, forward))
    assert tuple(spacing[axis] for axis in forward) == own
    assert array_spacing(None, True, settings((0.5, 0.7))) == (999, 0.5, 0.7)


def test_given_spacing():
    assert array_spacing((2, 0.5, 0.7), False, settings((1, 1, 1))) == (2, 0.5, 0.7)
    assert array_spacing(np.array([0.5, 0.7]), True, settings((1, 1))) == (999, 0.5, 0.7)
    assert array_spacing((4, 0.5, 0.7), True, settings((1, 1))) == (4, 0.5, 0.7)


@pytest.mark.parametrize(
    "spacing", [(1, 1), (1,), (1, 1, 1, 1), (1, 0, 1), (1, -1, 1), (1, float("nan"), 1), 1.0, "mm"]
)
def test_bad_spacing_of_volumes(spacing):
    with pytest.raises(InputError, match=r"\(z, y, x\)"):
        array_spacing(spacing, False, settings((1, 1, 1)))


def test_bad_spacing_of_pictures():
    with pytest.raises(InputError, match=r"must be \(y, x\)"):
        array_spacing((1,), True, settings((1, 1)))
