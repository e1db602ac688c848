import numpy as np
import pytest

from nnsam.inference.openvino_backend import EmbeddingCache

PATCHES = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)


class Encoder:
    """(B, C, H, W) -> (B, 256, 1, 1), and a record of the batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, patches):
        self.batches.append(len(patches))
        return np.repeat(patches.mean(axis=(1, 2, 3))[:, None, None, None], 256, axis=1)


@pytest.fixture
def encoder():
    return Encoder()


def test_only_what_is_missing_is_computed(encoder):
    cache = EmbeddingCache(encoder)
    first = cache(PATCHES[:2])
    np.testing.assert_array_equal(first, encoder(PATCHES[:2]))
    mixed = cache(PATCHES[[0, 2, 1, 2]])
    np.testing.assert_array_equal(mixed, encoder(PATCHES[[0, 2, 1, 2]]))
    assert encoder.batches == [2, 2, 1, 4]
    assert cache.computed == 3


def test_equal_content_elsewhere_in_memory_is_known(encoder):
    cache = EmbeddingCache(encoder)
    cache(PATCHES)
    wide = np.zeros((4, 2, 8, 8), np.float32)
    wide[:, :1] = PATCHES
    cache(wide[:, :1])
    assert cache.computed == 4
    cache(PATCHES + np.float32(1e-3))
    assert cache.computed == 8


def test_results_are_the_callers_own(encoder):
    cache = EmbeddingCache(encoder)
    expected = encoder(PATCHES)
    for _ in range(2):
        found = cache(PATCHES)
        np.testing.assert_array_equal(found, expected)
        found[:] = 0


def test_memory_is_bounded_and_the_oldest_goes_first(encoder):
    cache = EmbeddingCache(encoder, megabytes=2 * 1024 / 2**20)  # two embeddings of 256 values
    for patch in (0, 1, 0, 2):  # 1 has to go
        cache(PATCHES[[patch]])
    cache(PATCHES[[0]])
    assert cache.computed == 3
    cache(PATCHES[[1]])
    assert cache.computed == 4


def test_nothing_is_kept_without_memory_and_larger_batches_than_memory_work(encoder):
    for megabytes in (0, 1024 / 2**20):
        cache = EmbeddingCache(encoder, megabytes)
        for _ in range(2):
            np.testing.assert_array_equal(cache(PATCHES), encoder(PATCHES))
        assert cache.computed >= 7
