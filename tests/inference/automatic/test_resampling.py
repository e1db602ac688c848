import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

from nnsam.errors import InputError
from nnsam.inference.automatic.resampling import Resampling, coarse_axis, resampled_shape

lengths = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))
spacings = st.tuples(*[st.sampled_from([0.25, 0.7, 1.0, 1.3, 3.9, 5.0, 999.0])] * 3)
forces = st.sampled_from([None, True, False])


def image_of(shape, dtype, seed, channels=2):
    return np.random.default_rng(seed).normal(0, 3, (channels, *shape)).astype(dtype)


@given(spacings, spacings, forces)
def test_coarse_axis_is_nnunets(spacing, target, force):
    separate, axis = determine_do_sep_z_and_axis(force, spacing, target)
    assert coarse_axis(spacing, target, force) == (axis if separate else None)


@settings(max_examples=150)
@example((1, 3, 2), (1, 1, 1), (0.25, 0.25, 0.25), (0.25, 0.25, 1.0), (3, 3), None, np.float16, 1, 0)
@given(
    lengths,
    lengths,
    spacings,
    spacings,
    st.sampled_from([(3, 0), (1, 0), (0, 0), (3, 1), (1, 1), (3, 3)]),
    forces,
    st.sampled_from([np.float16, np.float32]),
    st.integers(1, 3),
    st.integers(0, 2**32),
)
def test_splines_are_nnunets_to_the_last_bit(shape, new, spacing, target, orders, force, dtype, threads, seed):
    image = image_of(shape, dtype, seed)
    arguments = {"order": orders[0], "order_z": orders[1], "force_separate_z": force}
    expected = resample_data_or_seg_to_shape(image.copy(), new, spacing, target, is_seg=False, **arguments)
    resampling = Resampling.of({"function": "resample_data_or_seg_to_shape", "is_seg": False, **arguments})
    found = resampling(image, new, spacing, target, threads)
    assert found.dtype == expected.dtype == dtype
    assert np.array_equal(found, expected)
    for channel, other in zip(resampling.channels(image, new, spacing, target, threads), expected, strict=True):
        assert channel.dtype == dtype
        assert np.array_equal(channel, other)


@given(lengths, lengths, spacings, spacings, forces, st.sampled_from([np.float16, np.float32]), st.integers(0, 99))
def test_linear_resampling_is_pytorchs(shape, new, spacing, target, force, dtype, seed):
    image = image_of(shape, dtype, seed)
    expected = resample_torch_fornnunet(torch.from_numpy(image), new, spacing, target, force_separate_z=force).numpy()
    found = Resampling.of({"function": "resample_torch_fornnunet", "force_separate_z": force})(
        image, new, spacing, target
    )
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_nnunets_defaults_where_the_plans_give_no_arguments():
    image = image_of((4, 9, 8), np.float32, 1)
    spacing, target, new = (5.0, 1.0, 1.0), (1.0, 1.0, 1.0), (20, 9, 8)
    found = Resampling.of({"function": "resample_data_or_seg_to_shape"})(image, new, spacing, target)
    assert np.array_equal(found, resample_data_or_seg_to_shape(image, new, spacing, target))
    found = Resampling.of({"function": "resample_torch_fornnunet"})(image, new, spacing, target)
    np.testing.assert_allclose(found, resample_torch_fornnunet(image, new, spacing, target), atol=1e-5)


def test_no_resampling_returns_the_image():
    image = image_of((4, 9, 8), np.float32, 1)
    found = Resampling.of({"function": "no_resampling_hack"})(image, (5, 5, 5), (1, 1, 1), (2, 2, 2))
    assert found is no_resampling_hack(image, (5, 5, 5), (1, 1, 1), (2, 2, 2))


def test_an_unchanged_shape_costs_nothing():
    image = image_of((4, 9, 8), np.float16, 1)
    assert Resampling()(image, (4, 9, 8), (1, 1, 1), (2, 2, 2)) is image
    channels = list(Resampling().channels(image, (4, 9, 8), (1, 1, 1), (2, 2, 2)))
    assert all(np.shares_memory(channel, image) for channel in channels)


@given(lengths, spacings, spacings)
def test_new_shapes_are_nnunets(shape, spacing, target):
    expected = compute_new_shape(shape, spacing, target)
    if expected.min() < 1 or np.prod(expected, dtype=float) > 2**32:
        with pytest.raises(InputError, match="check the image's voxel size"):
            resampled_shape(shape, spacing, target)
    else:
        assert resampled_shape(shape, spacing, target) == tuple(expected)


def test_a_voxel_size_in_metres_is_noticed():
    with pytest.raises(InputError, match="512 x 512 x 512 voxels of 1000 x 1000 x 1000 and would have 512000 x"):
        resampled_shape((512, 512, 512), (1e3, 1e3, 1e3), (1, 1, 1))


def test_an_unknown_function_is_named():
    with pytest.raises(InputError, match="resample_my_way, which nnsam does not know"):
        Resampling.of({"function": "resample_my_way"})


def test_an_unknown_mode_is_named():
    with pytest.raises(InputError, match="in the modes linear and area"):
        Resampling.of({"function": "resample_torch_fornnunet", "aniso_axis_mode": "area"})


def test_rounding_half_precision_twice_would_be_noticed():
    image, shape = image_of((9, 31, 30), np.float16, 5), (19, 97, 90)
    once = Resampling(order=1)(image, shape, (1, 1, 1), (1, 1, 1))
    twice = Resampling(order=1)(image.astype(np.float32), shape, (1, 1, 1), (1, 1, 1)).astype(np.float16)
    assert 0 < (once != twice).mean() < 1e-3
