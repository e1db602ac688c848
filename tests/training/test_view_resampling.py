import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from nnsam.inference.box.image import Normalization, Plane
from nnsam.training.prompted_dataset import resample_view


@pytest.fixture
def slice_():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 40, 50)).astype(np.float32)
    return image, rng.integers(0, 3, size=(40, 50)).astype(np.int16)


def view_of(case, region, size):
    return resample_view(case[0], case[1], 1, np.array(region, float), size)


def test_a_region_of_the_views_size_is_a_crop(slice_):
    view, mask = view_of(slice_, [5, 7, 25, 37], (20, 30))
    np.testing.assert_allclose(view, slice_[0][:, 1, 5:25, 7:37], atol=1e-6)
    assert (mask == slice_[1][5:25, 7:37]).all()


def test_beyond_the_image_there_is_zero_and_minus_one(slice_):
    view, mask = view_of(slice_, [-10, 30, 30, 70], (40, 40))
    np.testing.assert_allclose(view[:, 10:, :20], slice_[0][:, 1, :30, 30:], atol=1e-6)
    outside = np.ones((40, 40), bool)
    outside[10:, :20] = False
    assert (mask[outside] == -1).all()
    assert (view[:, outside] == 0).all()
    assert (mask[~outside] >= 0).all()


def test_a_region_that_misses_the_image_is_empty(slice_):
    view, mask = view_of(slice_, [100, 100, 120, 120], (8, 8))
    assert (view == 0).all()
    assert (mask == -1).all()


def test_enlarging_is_torchs_bilinear_interpolation(slice_):
    view, _ = view_of(slice_, [0, 0, 40, 50], (120, 100))
    expected = interpolate(torch.from_numpy(slice_[0][None, :, 1]), size=(120, 100), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(view, expected, atol=1e-5)


def test_shrinking_by_2_is_the_mean_of_blocks(slice_):
    view, _ = view_of(slice_, [0, 0, 40, 48], (20, 24))
    expected = slice_[0][:, 1, :, :48].reshape(2, 20, 2, 24, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(view, expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1.25, 1.5, 1.9, 2.7])
def test_what_is_too_fine_for_the_view_does_not_appear_as_something_else(factor):
    """A board of black and white pixels is grey from afar; without antialiasing it becomes a pattern of its own."""
    board = (np.indices((240, 240)).sum(axis=0) % 2 * 2.0 - 1).astype(np.float32)[None, None]
    size = int(200 / factor)
    view, _ = resample_view(board, np.zeros((240, 240), np.int16), 0, np.array([20.0, 20, 220, 220]), (size, size))
    grid = np.linspace(20.5, 219.5, size).astype(int)
    assert board[0, 0][np.ix_(grid, grid)].std() > 0.9  # what picking pixels gives
    assert view[0].std() < 0.2


@settings(max_examples=80, deadline=None)
@given(
    low=st.tuples(st.floats(-150, 250), st.floats(-150, 250)),
    sides=st.tuples(st.floats(5, 400), st.floats(5, 400)),
    size=st.tuples(st.integers(3, 90), st.integers(3, 90)),
)
def test_a_view_is_what_inference_sees_of_the_whole_slice(low, sides, size):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(2, 1, 210, 190)).astype(np.float32)
    region = np.array([*low, low[0] + sides[0], low[1] + sides[1]])
    view, _ = resample_view(image, np.zeros((210, 190), np.int16), 0, region, size)
    pixels = np.moveaxis(image[:, 0], 0, -1)
    expected = Plane(pixels, Normalization.none(pixels.shape[:2], 2), 2).patch(region, size)
    np.testing.assert_allclose(view, expected, atol=2e-4)


def test_a_ramp_stays_a_ramp_at_any_scale():
    rows = np.arange(64.0, dtype=np.float32) + 0.5  # the value is the coordinate of the pixel's centre
    image = np.broadcast_to(rows[None, None, :, None], (1, 1, 64, 64)).copy()
    for size in (9, 20, 31, 64, 100):
        view, _ = resample_view(image, np.zeros((64, 64), np.int16), 0, np.array([10.0, 10, 50, 50]), (size, size))
        expected = 10 + (np.arange(size) + 0.5) * 40 / size
        np.testing.assert_allclose(view[0, :, 3], expected, atol=0.1 if size >= 20 else 1)
