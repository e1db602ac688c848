import numpy as np
import pytest
from helpers.shapes import assert_turns_along, blobs, disk, half_plane


def test_check_of_turns_fails_for_a_function_with_a_direction():
    with pytest.raises(AssertionError, match="flip"):
        assert_turns_along(lambda a: np.cumsum(a, axis=-1), blobs().astype(float), tolerance=1e-6)


def test_check_of_turns_fails_just_above_its_tolerance():
    def tilted(array):
        return array + np.linspace(0, 1e-3, array.shape[-1])

    assert_turns_along(tilted, blobs().astype(float), tolerance=2e-3)
    with pytest.raises(AssertionError):
        assert_turns_along(tilted, blobs().astype(float), tolerance=1e-5)


def test_exact_shapes_have_unit_slope():
    for phi in (disk(20), half_plane(30)):
        d_y, d_x = np.gradient(phi)
        np.testing.assert_allclose(np.hypot(d_y, d_x)[np.abs(phi) < 10], 1, atol=5e-3)
