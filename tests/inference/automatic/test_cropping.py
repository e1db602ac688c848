import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnsam.inference.automatic.preprocessing import box_slices, filled_mask, nonzero_box

images = st.tuples(
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 1),
    st.integers(0, 2**32),
)


def image_of(channels, depth, height, width, share, seed):
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(channels, depth, height, width)).astype(np.float32)
    image[:, generator.random((depth, height, width)) > share**2] = 0
    return image


@given(images, st.permutations([0, 1, 2]))
def test_box_and_mask_are_nnunets(case, order):
    image = image_of(*case).transpose([0, *(axis + 1 for axis in order)])
    expected, segmentation, box = crop_to_nonzero(image)
    found = nonzero_box(image)
    assert [list(bounds) for bounds in found] == box
    cropped = image[(slice(None), *box_slices(found))]
    assert np.array_equal(cropped, expected)
    # nnU-Net fills holes in the whole image, the runtime in the cropped one.
    assert np.array_equal(filled_mask(cropped), segmentation[0] >= 0)


def test_a_hole_is_filled_and_a_notch_is_not():
    image = np.ones((1, 5, 5, 5), dtype=np.float32)
    image[0, 2, 2, 2] = 0
    image[0, 0, 2, 2] = 0
    mask = filled_mask(image)
    assert mask[2, 2, 2]
    assert not mask[0, 2, 2]
    assert mask.sum() == 124


def test_nothing_is_enclosed_in_a_picture():
    image = np.ones((1, 1, 5, 5), dtype=np.float32)
    image[0, 0, 2, 2] = 0
    assert not filled_mask(image)[0, 2, 2]


def test_a_channel_that_is_zero_does_not_count_and_an_empty_image_is_kept():
    image = np.zeros((2, 3, 4, 5), dtype=np.float32)
    assert nonzero_box(image) == ((0, 3), (0, 4), (0, 5))
    image[1, 1, 2, 3] = -1
    assert nonzero_box(image) == ((1, 2), (2, 3), (3, 4))


@pytest.mark.parametrize("wrong", [((0, 3), (0, 4), (0, 4)), ((0, 3), (1, 4), (0, 5))])
def test_the_comparison_fails_for_other_boxes(wrong):
    image = np.ones((1, 3, 4, 5), dtype=np.float32)
    assert [list(bounds) for bounds in wrong] != crop_to_nonzero(image)[2]
