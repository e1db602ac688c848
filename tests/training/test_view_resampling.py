import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

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


def test_shrinking_by_whole_numbers_is_the_mean_of_blocks(slice_):
    view, _ = view_of(slice_, [0, 0, 40, 50], (10, 25))
    expected = slice_[0][:, 1].reshape(2, 10, 4, 25, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(view, expected, atol=1e-5)


def test_a_ramp_stays_a_ramp_at_any_scale():
    rows = np.arange(64.0, dtype=np.float32) + 0.5  # the value is the coordinate of the pixel's centre
    image = np.broadcast_to(rows[None, None, :, None], (1, 1, 64, 64)).copy()
    for size in (9, 20, 31, 64, 100):
        view, _ = resample_view(image, np.zeros((64, 64), np.int16), 0, np.array([10.0, 10, 50, 50]), (size, size))
        expected = 10 + (np.arange(size) + 0.5) * 40 / size
        # Blocks are averaged at whole pixels, so that the ends may lie half a block off.
        np.testing.assert_allclose(view[0, :, 3], expected, atol=1e-3 if size >= 20 else 2.1)
