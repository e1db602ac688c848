import subprocess
import sys

import numpy as np
import pytest
from helpers.shapes import assert_turns_along, blobs, disk, grid, half_plane
from scipy import ndimage

from nnsam import geometry
from nnsam.errors import InputError
from nnsam.geometry import relative_spacing, signed_distance, squash


@pytest.mark.parametrize("radius", [5, 10, 20, 40])
@pytest.mark.parametrize("centre", [(47.5, 47.5), (47.1, 47.8)])
def test_disk_is_distance_to_centre_minus_radius(radius, centre):
    exact = disk(radius, centre=centre)
    near = np.abs(exact) < 10
    error = (signed_distance(exact < 0) - exact)[near]
    # Sampling a shape at pixel centres alone costs up to half a pixel.
    assert np.abs(error).max() < 0.75
    assert np.sqrt((error**2).mean()) < 0.25
    assert abs((np.sign(exact[near]) * error).mean()) < 0.06


@pytest.mark.parametrize(
    ("degrees", "rms"),
    [(0, 1e-6), (90, 1e-6), (180, 1e-6), (10, 0.25), (22.5, 0.17), (30, 0.2), (45, 0.25), (70, 0.25)],
)
def test_half_plane(degrees, rms):
    exact = half_plane(degrees, size=97, offset=0.5 if degrees % 90 == 0 else 0.2)
    exact_inside = exact[24:-24, 24:-24]  # nearest points beyond the border are not visible
    error = (signed_distance(exact < 0) - exact)[24:-24, 24:-24][np.abs(exact_inside) < 10]
    assert np.sqrt((error**2).mean()) < rms
    assert abs(np.sign(exact_inside[np.abs(exact_inside) < 10]) @ error / error.size) < 0.1


def test_diagonal_edge_is_exact_where_the_nearest_pixel_is_diagonal():
    y, x = grid(41)
    distance = signed_distance(y + x < 40)
    # y + x = 39.5 is the edge; pixels with y + x = 39 - 2 k + 1 see a pixel at (k, k).
    for k in (1, 2, 3):
        assert distance[20 - k, 20 - k] == pytest.approx(-(2 * k - 0.5) / np.sqrt(2), abs=1e-6)


def test_beats_the_plain_half_pixel_correction():
    errors = {"ours": [], "half": []}
    for seed in range(4):
        centre = 47.5 + np.random.default_rng(seed).uniform(-0.5, 0.5, 2)
        exact = disk(20, centre=tuple(centre))
        mask, near = exact < 0, np.abs(exact) < 10
        half = np.where(mask, 0.5 - ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask) - 0.5)
        errors["ours"].append(((signed_distance(mask) - exact)[near] ** 2).mean())
        errors["half"].append(((half - exact)[near] ** 2).mean())
    assert np.mean(errors["ours"]) < 0.65 * np.mean(errors["half"])


@pytest.mark.parametrize("spacing", [None, (1, 2), (0.7, 0.5)])
@pytest.mark.parametrize("max_distance", [None, 5.0])
def test_complement_has_the_negative_distance(spacing, max_distance):
    mask = blobs()
    options = {"spacing": spacing, "max_distance": max_distance}
    np.testing.assert_array_equal(signed_distance(~mask, **options), -signed_distance(mask, **options))


@pytest.mark.parametrize("seed", range(4))
def test_turns_and_flips_with_the_mask_exactly(seed):
    random = np.random.default_rng(seed).random((40, 40)) < 0.03
    assert_turns_along(signed_distance, blobs(seed=seed), tolerance=0)
    assert_turns_along(signed_distance, random, tolerance=0)
    assert_turns_along(lambda mask: signed_distance(mask, max_distance=4), random, tolerance=0)


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0), (0.4, 1.3)])
@pytest.mark.parametrize("limit", [0.3, 1.0, 3.7, 12.0, 500.0])
@pytest.mark.parametrize("case", ["blobs", "small", "ring", "almost full", "two corners", "noise"])
def test_cut_off_changes_nothing_below_it(case, limit, spacing):
    y, x = grid(64)
    mask = {
        "blobs": blobs(64),
        "small": np.hypot(y - 10, x - 50) < 4,
        "ring": np.abs(np.hypot(y - 32, x - 32) - 20) < 3,
        "almost full": np.hypot(y - 5, x - 60) > 2,
        "two corners": (y + x < 5) | (y + x > 120),
        "noise": np.random.default_rng(0).random((64, 64)) < 0.01,
    }[case]
    ignored = (y > 40) & (x < 20)
    for unknown in (None, ignored):
        full = signed_distance(mask, spacing, ignored=unknown)
        expected = np.where(np.abs(full) > limit, np.sign(full) * np.inf, full)
        np.testing.assert_array_equal(signed_distance(mask, spacing, ignored=unknown, max_distance=limit), expected)


@pytest.mark.parametrize("max_distance", [None, 8.0])
def test_empty_and_full_masks_are_infinitely_far(max_distance):
    empty = np.zeros((2, 5, 7), dtype=bool)
    assert (signed_distance(empty, max_distance=max_distance) == np.inf).all()
    assert (signed_distance(~empty, max_distance=max_distance) == -np.inf).all()
    assert (squash(signed_distance(empty)) == 1).all()
    assert (squash(signed_distance(~empty)) == -1).all()


def test_border_of_the_array_is_no_boundary():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:, :8] = True
    expected = np.broadcast_to(np.arange(20) - 7.5, (20, 20))
    np.testing.assert_array_equal(signed_distance(mask), expected)


def test_zero_level_lies_between_the_pixels_and_the_sign_is_the_mask():
    mask = blobs()
    distance = signed_distance(mask)
    np.testing.assert_array_equal(distance < 0, mask)
    assert np.abs(distance).min() == pytest.approx(0.5)


def test_touching_disks_join():
    centres = ((32, 20), (32, 43))
    mask = np.minimum(disk(12, 64, centres[0]), disk(12, 64, centres[1])) < 0
    distance = signed_distance(mask)
    assert np.isfinite(distance).all()
    np.testing.assert_array_equal(distance < 0, mask)
    assert abs(distance[32, 31]) < 5  # the neck is thin
    assert distance[32, 20] == pytest.approx(-11.7, abs=0.6)


def test_circle_in_millimetres_on_an_anisotropic_grid():
    spacing, radius_mm = (2.0, 0.5), 15.0
    y, x = np.mgrid[:32, :128].astype(float)
    errors = []
    for offset_y, offset_x in np.random.default_rng(0).random((12, 2)):
        exact_mm = np.hypot((y - 15 - offset_y) * spacing[0], (x - 63 - offset_x) * spacing[1]) - radius_mm
        exact = exact_mm / np.sqrt(spacing[0] * spacing[1])  # unit: square pixel of the same area
        errors.append((signed_distance(exact < 0, spacing) - exact)[np.abs(exact) < 8])
    errors = np.concatenate(errors)
    assert np.sqrt((errors**2).mean()) < 0.5  # pixels 2 units high: 0.58 is the noise of sampling a flat edge
    assert abs(errors.mean()) < 0.1


def test_unit_of_spacing_does_not_matter():
    mask = blobs()
    np.testing.assert_allclose(signed_distance(mask, (2.3, 1)), signed_distance(mask, (0.023, 0.01)), rtol=1e-6)
    np.testing.assert_array_equal(signed_distance(mask, (3, 3)), signed_distance(mask))
    assert relative_spacing((3, 3)) == (1, 1)


@pytest.mark.parametrize("spacing", [(1,), (1, 1, 1), (0, 1), (-1, 1), (np.nan, 1)])
def test_bad_spacing_is_told(spacing):
    with pytest.raises(InputError, match="Spacing"):
        signed_distance(np.ones((3, 3)), spacing)


def test_mask_without_two_axes_is_told():
    with pytest.raises(InputError, match="height and width"):
        signed_distance(np.ones(3))


def test_stack_equals_its_masks_one_by_one_and_input_stays():
    stack = np.stack([blobs(seed=1), blobs(seed=2), np.zeros((48, 48), bool)]).reshape(3, 1, 48, 48)
    before = stack.copy()
    distances = signed_distance(stack)
    assert distances.shape == stack.shape
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(stack, before)
    for mask, distance in zip(stack, distances, strict=True):
        np.testing.assert_array_equal(distance, signed_distance(mask))


def test_numbers_and_other_memory_layouts_are_masks_too():
    mask = blobs()
    np.testing.assert_array_equal(signed_distance(mask.astype(np.int16) * 3), signed_distance(mask))
    np.testing.assert_array_equal(signed_distance(mask[::2, ::-3]), signed_distance(mask[::2, ::-3].copy()))


def test_edge_of_an_ignored_area_is_no_boundary():
    mask = np.zeros((1, 30), dtype=bool)
    mask[:, :10] = True
    ignored = np.zeros_like(mask)
    ignored[:, 10:15] = True
    distance = signed_distance(mask, ignored=ignored)
    assert np.isnan(distance[ignored]).all()
    # Pixel 9 is 6 away from pixel 15, the nearest that is known to be outside.
    assert distance[0, 9] == -5.5
    assert distance[0, 15] == 5.5


def test_all_known_is_as_no_ignored_area_and_all_ignored_is_nan():
    mask = blobs()
    np.testing.assert_array_equal(signed_distance(mask, ignored=np.zeros_like(mask)), signed_distance(mask))
    assert np.isnan(signed_distance(mask, ignored=np.ones_like(mask))).all()


def test_squash_needs_a_positive_band():
    with pytest.raises(InputError, match="band"):
        squash(np.zeros(3), band=0)


def test_signed_distance_needs_no_torch():
    code = (
        "import sys; from nnsam.geometry import signed_distance, level_set_target; assert callable(signed_distance);"
        "import nnsam.geometry.signed_distance; from nnsam import geometry; assert callable(geometry.signed_distance);"
        "assert 'torch' not in sys.modules;"
        "from nnsam.geometry import curvature; assert callable(curvature) and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_functions_stay_functions_when_their_modules_are_imported_first():
    code = (
        "import nnsam.geometry.differential, nnsam.geometry.signed_distance; from nnsam import geometry;"
        "assert all(callable(getattr(geometry, name)) for name in geometry.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'curve'"):
        geometry.curve  # noqa: B018
