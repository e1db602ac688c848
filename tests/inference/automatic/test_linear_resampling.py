import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from nnsam.inference.automatic.resampling import linear, nearest, nearest_slices

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


@given(sizes, sizes, st.sampled_from([np.float16, np.float32]), st.integers(0, 2**32))
def test_linear_is_pytorchs(shape, new_shape, dtype, seed):
    image = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    expected = interpolate(torch.from_numpy(image)[None, None].float(), new_shape, mode="trilinear")[0, 0].numpy()
    found = linear(image, new_shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@given(st.integers(1, 300), st.integers(1, 300))
@example(2, 141)  # a tie
@example(10, 235)
@example(8, 164)
def test_nearest_slices_are_pytorchs(count, size):
    image = torch.arange(count, dtype=torch.float32)
    expected = interpolate(image[None, None], size, mode="nearest-exact")[0, 0].numpy()
    assert np.array_equal(nearest_slices(count, size), expected)


def test_nearest_repeats_whole_slices():
    image = np.arange(6, dtype=np.float16).reshape(2, 3)
    assert nearest(image, 4, 0).tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert nearest(image, 4, 0).dtype == np.float32


def test_a_ramp_stays_a_ramp_between_the_outer_voxels():
    assert linear(np.array([0.0, 4.0], dtype=np.float32), (4,)).tolist() == [0, 1, 3, 4]
