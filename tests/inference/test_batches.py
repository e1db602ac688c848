"""Batches that backends get."""

import numpy as np
import pytest

from nnsam.inference.backend import run_batched


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
def test_batches_are_contiguous_whatever_the_axes_of_the_patches_were(count, order):
    rng = np.random.default_rng(0)
    patches = [rng.random((3, 4, 5), np.float32).transpose(order) for _ in range(count)]
    seen = []

    def stream(batches):
        for batch in batches:
            seen.append(batch.flags.c_contiguous)
            yield batch

    results = list(run_batched(stream, iter(patches), 2))
    assert all(seen)
    assert len(seen) == -(-count // 2)
    for result, patch in zip(results, patches, strict=True):
        np.testing.assert_array_equal(result, patch)
