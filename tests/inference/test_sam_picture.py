import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.inference.sam_picture import legacy_picture, robust_picture
from nnsam.networks.legacy import LegacyInput
from nnsam.networks.sam_branch import SAMInput


def random_patch(channels, height, width, seed=0, batch=2):
    return np.random.default_rng(seed).normal(scale=50, size=(batch, channels, height, width)).astype(np.float32)


def difference(patch, size):
    expected = SAMInput(size).picture(torch.from_numpy(patch)).numpy()
    found = robust_picture(patch, size)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return np.abs(found - expected).max()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((32, 48), 64), ((64, 64), 64), ((224, 288), 256), ((100, 64), 64), ((33, 300), 96), ((512, 700), 1024)],
)
def test_pictures_are_those_of_the_network(channels, shape, size):
    assert difference(random_patch(channels, *shape), size) <= 1e-5


@settings(max_examples=60)
@given(
    st.integers(1, 5), st.integers(1, 90), st.integers(1, 90), st.integers(1, 4).map(lambda n: 32 * n), st.integers(0)
)
def test_any_shape_agrees(channels, height, width, size, seed):
    assert difference(random_patch(channels, height, width, seed % 2**32, batch=1), size) <= 1e-5


@pytest.mark.parametrize("value", [0.0, 7.5, -1e4])
def test_flat_patches_stay_flat(value):
    patch = np.full((1, 3, 20, 30), value, np.float32)
    assert difference(patch, 32) == 0
    assert np.ptp(robust_picture(patch, 32)) == 0
    patch[0, :, 3, 4] += 1e-3  # noise is not stretched to full contrast
    assert difference(patch, 32) <= 1e-5


def test_ties_and_outliers_agree():
    patch = np.round(random_patch(3, 61, 47) / 40).astype(np.float32)
    patch[0, 0, 0, 0] = 1e6
    assert difference(patch, 64) <= 1e-5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(32, 48), (64, 64), (1, 70), (224, 288)])
def test_legacy_pictures_are_those_of_the_network(channels, shape):
    patch = random_patch(channels, *shape) / 50
    for size in (64, 256):
        expected = LegacyInput(size).picture(torch.from_numpy(patch)).numpy()
        np.testing.assert_allclose(legacy_picture(patch, size), expected, atol=1e-5)


def test_legacy_pictures_have_one_or_three_channels():
    with pytest.raises(InputError, match="1 or 3 channels; found 2"):
        legacy_picture(random_patch(2, 8, 8), 64)
