import math

import numpy as np
import pytest
import torch
from helpers.shapes import assert_turns_along, blobs, disk, grid, half_plane

from nnsam.errors import InputError
from nnsam.geometry import curvature, gradient, narrow_band, signed_distance, squash

BAND = 8.0


def as_numpy(function, **options):
    return lambda array: function(torch.from_numpy(array), **options).numpy()


def curvature_of_mask(mask, spacing=None):
    phi = torch.from_numpy(squash(signed_distance(mask, spacing), BAND))
    return curvature(phi, spacing, smoothing=2.0).numpy(), narrow_band(phi, 3.0, BAND).numpy()


@pytest.mark.parametrize("radius", [5, 8, 15, 30])
@pytest.mark.parametrize("squashed", [False, True])
def test_disk_has_curvature_one_over_radius(radius, squashed):
    exact = disk(radius)
    phi = np.tanh(exact / BAND) if squashed else exact
    near = np.abs(exact) < 2
    kappa = as_numpy(curvature)(phi)[near]
    np.testing.assert_allclose(kappa, 1 / (radius + exact[near]), rtol=0.06)
    assert kappa.mean() == pytest.approx((1 / (radius + exact[near])).mean(), rel=0.01)


@pytest.mark.parametrize("radius", [6, 10, 20, 40])
def test_disk_from_a_mask(radius):
    for centre in ((47.5, 47.5), (47.9, 47.3)):
        exact = disk(radius, centre=centre)
        kappa, near = curvature_of_mask(exact < 0)
        error = (kappa - 1 / (radius + exact))[near]
        assert np.sqrt((error**2).mean()) < 0.03
        assert abs(error.mean()) < 0.003


def test_hole_has_negative_curvature():
    np.testing.assert_allclose(as_numpy(curvature)(-disk(12)), -as_numpy(curvature)(disk(12)), atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 45, 63, 90])
def test_half_plane_is_straight(degrees):
    exact = half_plane(degrees)
    assert np.abs(as_numpy(curvature)(exact)).max() < 1e-6
    kappa, near = curvature_of_mask(exact < 0)
    near[:20] = near[-20:] = near[:, :20] = near[:, -20:] = False
    assert np.sqrt((kappa[near] ** 2).mean()) < 0.03
    assert abs(kappa[near].mean()) < 0.003


def test_ellipse_has_its_analytic_curvature():
    a, b = 36.0, 20.0
    y, x = grid(128)
    y, x = y - 63.5, x - 63.5
    phi = np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1  # not a distance: curvature depends on the level lines only
    kappa = as_numpy(curvature)(phi)
    near = np.abs(phi) < 0.05
    # The level line through (x, y) is the ellipse with axes scaled by s.
    s = (phi + 1)[near]
    analytic = (s * a * s * b) / (
        (s * b) ** 2 * (x[near] / (s * a)) ** 2 + (s * a) ** 2 * (y[near] / (s * b)) ** 2
    ) ** 1.5
    # Parametric form: with x = s a cos t and y = s b sin t the speed is sqrt(s² a² sin² t + s² b² cos² t).
    np.testing.assert_allclose(kappa[near], analytic, atol=2e-3)
    assert analytic.max() / analytic.min() > 4


def test_ellipse_from_a_mask():
    a, b = 40.0, 25.0
    y, x = grid(128)
    y, x = y - 63.5, x - 63.5
    kappa, near = curvature_of_mask((x / a) ** 2 + (y / b) ** 2 < 1)
    near &= np.abs(np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) < 0.03
    t = np.arctan2(y / b, x / a)[near]
    analytic = a * b / (a**2 * np.sin(t) ** 2 + b**2 * np.cos(t) ** 2) ** 1.5
    assert np.sqrt(((kappa[near] - analytic) ** 2).mean()) < 0.03
    assert np.corrcoef(kappa[near], analytic)[0, 1] > 0.5
    assert abs((kappa[near] - analytic).mean()) < 0.003


def test_circle_in_millimetres_on_an_anisotropic_grid():
    spacing, radius_mm = (1.5, 0.6), 18.0
    unit = math.sqrt(spacing[0] * spacing[1])
    y, x = np.mgrid[:40, :100].astype(float)
    exact = (np.hypot((y - 19.5) * spacing[0], (x - 49.5) * spacing[1]) - radius_mm) / unit
    near = np.abs(exact) < 3
    np.testing.assert_allclose(
        as_numpy(curvature, spacing=spacing)(exact)[near], 1 / (radius_mm / unit + exact[near]), rtol=0.05
    )
    kappa, band = curvature_of_mask(exact < 0, spacing)
    assert kappa[band].mean() == pytest.approx(unit / radius_mm, rel=0.06)
    in_pixels, band = curvature_of_mask(exact < 0)  # an ellipse, with another perimeter and so another mean
    assert in_pixels[band].mean() < 0.9 * unit / radius_mm


def test_touching_disks_bend_outwards_except_at_the_contact():
    centres = ((48, 28), (48, 67))
    kappa, near = curvature_of_mask(np.minimum(disk(20, 96, centres[0]), disk(20, 96, centres[1])) < 0)
    assert np.isfinite(kappa).all()
    assert np.abs(kappa).max() < 2 * math.sqrt(2)
    x = grid(96)[1]
    away = near & (np.abs(x - 47.5) > 12)
    assert kappa[away].mean() == pytest.approx(1 / 20, abs=0.01)
    notch = near & (np.abs(x - 47.5) < 3)
    assert notch.any()
    assert kappa[notch].mean() < -0.1


def test_turns_and_flips_along():
    phi = squash(signed_distance(blobs()), BAND).astype(np.float64)
    phi += np.random.default_rng(0).normal(0, 0.02, phi.shape)
    assert_turns_along(as_numpy(curvature), phi, tolerance=1e-9)
    assert_turns_along(as_numpy(curvature, smoothing=1.5), phi, tolerance=1e-9)
    assert_turns_along(as_numpy(narrow_band, width=3.0), phi, tolerance=0)
    assert_turns_along(lambda a: torch.hypot(*gradient(torch.from_numpy(a))).numpy(), phi, tolerance=1e-12)
    assert_turns_along(as_numpy(curvature), phi.astype(np.float32), tolerance=1e-4)


def test_is_bounded_on_noise_and_zero_on_flat_ground():
    noise = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert curvature(noise).abs().max() <= 2 * math.sqrt(2)
    assert (curvature(torch.ones(8, 8)) == 0).all()
    assert (curvature(torch.full((8, 8), -1.0), smoothing=2.0).abs() < 1e-3).all()


def test_frame_is_zero():
    kappa = curvature(torch.from_numpy(disk(30, 40)))
    frame = torch.ones_like(kappa, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert (kappa[frame] == 0).all()
    assert (kappa[~frame] != 0).any()


@pytest.mark.parametrize("flat", [False, True])
def test_gradients_are_right_and_finite(flat):
    phi = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if flat:
        phi = torch.zeros_like(phi)
        curvature(phi.requires_grad_()).sum().backward()
        assert torch.isfinite(phi.grad).all()
        return
    phi.requires_grad_()
    options = {"spacing": (1.0, 2.0)}
    assert torch.autograd.gradcheck(lambda p: curvature(p, **options), phi)
    assert torch.autograd.gradcheck(lambda p: curvature(p, smoothing=1.0, eps=0.1), phi)
    assert torch.autograd.gradcheck(lambda p: gradient(p, **options), phi)


def test_mean_curvature_motion_shrinks_a_circle_as_it_must():
    """phi_t = kappa |grad phi| moves a circle inwards with speed 1/r: r(t)^2 = r(0)^2 - 2 t (Osher and Sethian)."""
    phi, step, steps = torch.from_numpy(disk(20, 64)), 0.2, 500
    for _ in range(steps):
        d_y, d_x = gradient(phi)
        phi = phi + step * curvature(phi) * torch.hypot(d_y, d_x)
    area = (phi < 0).sum().item()
    assert math.sqrt(area / math.pi) == pytest.approx(math.sqrt(20**2 - 2 * step * steps), rel=0.01)


def test_gradient_is_central_inside_and_one_sided_at_the_border():
    y, x = np.mgrid[:6, :7].astype(float)
    d_y, d_x = gradient(torch.from_numpy(2 * y + x**2))
    np.testing.assert_allclose(d_y, 2)
    np.testing.assert_allclose(d_x[:, 1:-1], 2 * x[:, 1:-1])
    np.testing.assert_allclose(d_x[:, 0], 1)
    d_y, d_x = gradient(torch.from_numpy(2 * y + x), spacing=(4.0, 1.0))
    np.testing.assert_allclose([d_y[2, 2], d_x[2, 2]], [1.0, 2.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    phi = torch.from_numpy(np.tanh(disk(20) / BAND)).to(dtype)
    for options in ({}, {"smoothing": 2.0}):
        expected = curvature(phi.float(), **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = curvature(phi, **options)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert gradient(phi)[0].dtype == torch.float32


def test_batch_equals_one_by_one_and_input_stays():
    maps = torch.stack([torch.from_numpy(disk(r)) for r in (10, 20, 30, 40)]).reshape(2, 2, 96, 96)
    before = maps.clone()
    for function in (lambda m: curvature(m, smoothing=2.0), lambda m: narrow_band(m, 3.0)):
        batch = function(maps)
        assert batch.shape == maps.shape
        for index in np.ndindex(2, 2):
            torch.testing.assert_close(batch[index], function(maps[index]))
    assert torch.equal(maps, before)


def test_too_small_maps_and_bad_options_are_told():
    with pytest.raises(InputError, match="3x3"):
        curvature(torch.zeros(2, 5))
    with pytest.raises(InputError, match="2x2"):
        gradient(torch.zeros(5))
    with pytest.raises(InputError, match="eps"):
        curvature(torch.zeros(5, 5), eps=0)


def test_narrow_band_is_where_the_distance_is_small():
    exact = disk(20)
    band = narrow_band(torch.from_numpy(np.tanh(exact / BAND)), 3.0, BAND).numpy()
    np.testing.assert_array_equal(band, np.abs(exact) < 3)


@pytest.mark.parametrize("value", [1.0, -1.0, math.nan])
def test_narrow_band_is_empty_without_a_boundary(value):
    assert not narrow_band(torch.full((2, 9, 9), value), 3.0).any()


@pytest.mark.parametrize("radius", [1, 4])
def test_narrow_band_keeps_away_from_unknown_pixels_and_the_border(radius):
    phi = torch.zeros(2, 20, 20)
    phi[0, 10, 12] = math.nan
    band = narrow_band(phi, 3.0, stencil_radius=radius)
    expected = torch.zeros(2, 20, 20, dtype=torch.bool)
    expected[:, 1:-1, 1:-1] = True
    expected[0, 10 - radius : 11 + radius, 12 - radius : 13 + radius] = False
    assert torch.equal(band, expected)
