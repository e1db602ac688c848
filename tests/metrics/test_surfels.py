from itertools import permutations, product

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area

from nnsam.metrics.surface import surfel_sizes


def cell(code: int) -> np.ndarray:
    return np.array([code >> bit & 1 for bit in range(8)], bool).reshape(2, 2, 2)


def size_in_cell(mask: np.ndarray, spacing) -> float:
    """Size of the surfel between the pixels of a 2 x 2 (x 2) mask."""
    return surfel_sizes(mask, spacing)[(1,) * mask.ndim]


def test_square_has_cut_corners():
    mask = np.zeros((9, 9), bool)
    mask[2:6, 3:8] = True  # 4 x 5 pixels: sides shortened by half a pixel at each end, four diagonals
    expected = 2 * (4 - 1) * 2.0 + 2 * (5 - 1) * 0.5 + 4 * np.hypot(1.0, 0.25)
    assert surfel_sizes(mask, (2.0, 0.5)).sum() == pytest.approx(expected)


def test_slab_that_fills_the_image_has_its_faces_at_the_edge():
    mask = np.ones((1, 6), bool)
    sizes = surfel_sizes(mask, (1.0, 1.0))
    assert sizes.shape == (2, 7)
    np.testing.assert_allclose(sizes[0], [2**-0.5, 1, 1, 1, 1, 1, 2**-0.5])


def test_cell_is_measured_the_same_from_both_sides():
    for code in range(256):
        assert size_in_cell(cell(code), (1.3, 0.7, 2.1)) == pytest.approx(size_in_cell(~cell(code), (1.3, 0.7, 2.1)))


def test_cell_is_measured_the_same_in_every_orientation():
    spacing = np.array((1.3, 0.7, 2.1))
    for code, axes in product(range(0, 256, 5), permutations(range(3))):
        for flips in product((slice(None), slice(None, None, -1)), repeat=3):
            turned = cell(code).transpose(axes)[flips]
            assert size_in_cell(turned, tuple(spacing[list(axes)])) == pytest.approx(
                size_in_cell(cell(code), tuple(spacing))
            )


@pytest.mark.parametrize(
    ("corners", "axis_free_area"),
    [
        ([(0, 0, 0)], 3**0.5 / 8),
        ([(0, 0, 0), (0, 0, 1)], 2**0.5 / 2),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0)], 0.5 + 3 * 3**0.5 / 8),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], 1.0),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)], 3 * 3**0.5 / 4),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)], 3**0.5 / 2 + 2**0.5 / 2),
        ([(0, 0, 0), (1, 1, 1)], 2 * 3**0.5 / 8),
    ],
)
def test_areas_of_a_unit_cell(corners, axis_free_area):
    mask = np.zeros((2, 2, 2), bool)
    mask[tuple(np.transpose(corners))] = True
    assert size_in_cell(mask, (1.0, 1.0, 1.0)) == pytest.approx(axis_free_area)


def test_ball_has_the_area_of_a_marching_cubes_mesh():
    z, y, x = np.mgrid[-12:13, -12:13, -12:13]
    ball = x**2 + y**2 + (1.5 * z) ** 2 < 81
    spacing = (1.5, 1.0, 1.0)
    mesh = marching_cubes(ball.astype(np.float32), 0.5, spacing=spacing, method="lorensen")
    area = mesh_surface_area(mesh[0], mesh[1])
    assert surfel_sizes(ball, spacing).sum() == pytest.approx(area, rel=0.01)
    # The comparison can fail: with the axes of the spacing mixed up the area is another one.
    assert surfel_sizes(ball, spacing[::-1]).sum() != pytest.approx(area, rel=0.01)
