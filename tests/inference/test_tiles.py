import itertools

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from scipy.ndimage import gaussian_filter

from nnsam.inference.tiles import gaussian, gaussian_bump, mirrorings, padding, tile_at, tile_starts

sizes = st.integers(1, 40)


@given(st.lists(sizes, min_size=1, max_size=3))
def test_gaussian_bump_is_scipys_filter(patch):
    peak = np.zeros(patch)
    peak[tuple(side // 2 for side in patch)] = 1
    assert np.array_equal(gaussian_bump(patch), gaussian_filter(peak, [side / 8 for side in patch], mode="constant"))


@pytest.mark.parametrize("patch", [(512, 512), (224, 288), (7, 31), (16, 64, 48), (28, 256, 256), (1, 64, 64), (5,)])
def test_gaussian_is_nnunets_to_the_last_bit(patch):
    expected = compute_gaussian(patch, value_scaling_factor=10, device=torch.device("cpu")).numpy()
    weights = gaussian(patch)
    assert weights.dtype == expected.dtype == np.float16
    assert np.array_equal(weights, expected)
    assert weights.min() > 0
    assert weights.max() == 10


def test_gaussian_is_not_written_to():
    with pytest.raises(ValueError, match="read-only"):
        gaussian((8, 8))[0] = 1


@given(
    st.tuples(sizes, sizes, sizes),
    st.tuples(sizes, sizes, sizes),
    st.integers(2, 3),
    st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_tiles_are_nnunets_in_its_order(patch, more, dimensions, step):
    patch = patch[3 - dimensions :]
    shape = tuple(a + b for a, b in zip((0, *patch)[-3:], more, strict=True))
    steps = compute_steps_for_sliding_window(shape[3 - dimensions :], patch, step)
    expected = list(itertools.product(*([range(shape[0])] if dimensions == 2 else []), *steps))
    starts = tile_starts(shape, patch, step)
    assert starts == expected
    covered = np.zeros(shape, dtype=int)
    for start in starts:
        tile = tile_at(start, patch)
        assert covered[tile].shape == patch
        covered[tile] += 1
    assert covered.min() >= 1


@given(st.tuples(sizes, sizes, sizes), st.lists(sizes, min_size=2, max_size=3))
def test_padding_is_nnunets(shape, patch):
    image = np.ones((2, *shape))
    expected, slicer = pad_nd_image(image, patch, "constant", {"constant_values": 0}, True)
    margins = padding(shape, patch)
    padded = np.pad(image, [(0, 0), *margins])
    assert np.array_equal(padded, expected)
    inside = tuple(slice(low, size - high) for (low, high), size in zip(margins, padded.shape[1:], strict=True))
    assert inside == tuple(slicer[1:])


def test_mirrorings_are_all_combinations_shorter_ones_first():
    assert mirrorings(None) == [()]
    assert mirrorings([]) == [()]
    assert mirrorings([1]) == [(), (1,)]
    assert mirrorings([0, 1, 2]) == [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
