import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnsam.inference.automatic.restoration import REGION_THRESHOLD, blocks, label_type, to_labels
from nnsam.inference.automatic.restoration import turn_into_probabilities as to_probabilities

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
HALVES = HALVES[np.isfinite(HALVES)]
PLAIN = {"has_regions": False, "regions_class_order": None, "foreground": [1, 2]}
REGIONS = {"has_regions": True, "regions_class_order": [3, 1], "foreground": [1, 2, 3]}


def labels_of(logits, labels):
    out = np.full(logits.shape[1:], 77, dtype=label_type(labels))
    to_labels(logits, labels, out)
    return out


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([np.float16, np.float32]),
    st.integers(0, 2**32),
)
def test_the_first_of_equal_logits_wins_as_in_nnunet(shape, dtype, seed):
    # Few different values, so that there are many ties.
    logits = np.random.default_rng(seed).integers(-2, 2, (4, *shape)).astype(dtype)
    expected = LabelManager({"background": 0, "a": 1, "b": 2, "c": 3}, None).convert_logits_to_segmentation(logits)
    assert np.array_equal(labels_of(logits, {**PLAIN, "foreground": [1, 2, 3]}), expected)


def test_every_half_is_inside_a_region_as_in_nnunet():
    logits = np.stack([HALVES, HALVES[::-1]]).reshape(2, 1, 4, -1)
    manager = LabelManager({"background": 0, "whole": [1, 2], "core": [2, 3]}, [3, 1])
    expected = manager.convert_logits_to_segmentation(torch.from_numpy(logits)).numpy()
    assert np.array_equal(labels_of(logits, REGIONS), expected)
    assert set(np.unique(expected)) == {0, 1, 3}


def test_the_threshold_in_single_precision_is_pytorchs():
    logits = np.arange(-400, 400, dtype=np.float32) * np.float32(2**-31)
    assert np.array_equal(torch.sigmoid(torch.from_numpy(logits)).numpy() > 0.5, logits > REGION_THRESHOLD)
    assert not np.array_equal(torch.sigmoid(torch.from_numpy(logits)).numpy() > 0.5, logits > 0)


@pytest.mark.parametrize(("count", "expected"), [(1, np.uint8), (254, np.uint8), (255, np.uint16), (300, np.uint16)])
def test_more_than_254_labels_take_16_bits(count, expected):
    assert label_type({"foreground": list(range(1, count + 1))}) == expected


def test_a_label_beyond_8_bits():
    labels = {**PLAIN, "foreground": list(range(1, 301))}
    logits = np.zeros((301, 1, 2, 2), dtype=np.float16)
    logits[300, 0, 0, 0] = 1
    assert labels_of(logits, labels).tolist() == [[[300, 0], [0, 0]]]


def test_channels_are_read_one_by_one():
    seen = []

    def channels():
        for index in range(3):
            seen.append(index)
            yield np.full((1, 2, 2), index, dtype=np.float16)

    out = np.zeros((1, 2, 2), dtype=np.uint8)
    to_labels(channels(), PLAIN, out)
    assert (out == 2).all()
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
def test_probabilities_are_pytorchs(labels):
    logits = np.random.default_rng(0).normal(0, 30, (3, 4, 5, 6)).astype(np.float16)
    logits[:, 0, 0] = 60000
    logits[1:, 0, 1] = -60000
    function = torch.sigmoid if labels["has_regions"] else lambda values: torch.softmax(values, 0)
    expected = function(torch.from_numpy(logits).float()).numpy()
    found = logits.astype(np.float32)
    with np.errstate(all="raise", under="ignore"):
        to_probabilities(found[:, ::-1], labels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 60),
)
def test_blocks_cover_each_voxel_once(shape, voxels):
    covered = np.zeros(shape, dtype=int)
    for block in blocks(shape, voxels):
        covered[block] += 1
        assert covered[block].size <= max(voxels, shape[2])
    assert (covered == 1).all()
