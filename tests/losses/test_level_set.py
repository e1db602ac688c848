import math

import numpy as np
import pytest
import torch

from nnsam.geometry import curvature, narrow_band, signed_distance, squash
from nnsam.losses import LevelSetLoss, curvature_loss, regression_loss
from nnsam.losses import level_set as module

BAND = 8.0


def grid(size):
    y, x = np.mgrid[:size, :size].astype(float)
    return y - (size - 1) / 2, x - (size - 1) / 2


def target_of(mask):
    return torch.from_numpy(squash(signed_distance(mask), BAND))


def disk_target(radius, size=64):
    return target_of(np.hypot(*grid(size)) < radius)


def star(size=64, amplitude=4):
    y, x = grid(size)
    return np.hypot(y, x) < 18 + amplitude * np.cos(5 * np.arctan2(y, x))


def noise_like(maps, scale=0.3, seed=0):
    return maps + scale * torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed), dtype=maps.dtype)


def dice(a, b):
    return 2 * (a & b).sum().item() / (a.sum() + b.sum()).item()


def assert_finite_and_connected(loss, phi_hat, phi):
    """The loss is finite and gives every prediction a finite gradient."""
    phi_hat = phi_hat.clone().requires_grad_()
    terms = loss(phi_hat, phi)
    assert all(torch.isfinite(term) for term in terms)
    terms.total.backward()
    assert phi_hat.grad is not None
    assert torch.isfinite(phi_hat.grad).all()
    return terms, phi_hat.grad


def test_check_of_connection_fails_for_a_cut_or_broken_graph():
    phi = torch.zeros(1, 1, 8, 8)

    class Cut(LevelSetLoss):
        def forward(self, phi_hat, phi):
            return super().forward(phi_hat.detach(), phi)

    with pytest.raises(RuntimeError, match="grad"):
        assert_finite_and_connected(Cut(), phi, phi)
    with pytest.raises(AssertionError):
        assert_finite_and_connected(LevelSetLoss(), phi * math.nan, phi)


def test_dice_helper_tells_shapes_apart():
    assert dice(torch.tensor([True, False]), torch.tensor([False, True])) == 0
    assert dice(disk_target(10) < 0, disk_target(10) < 0) == 1
    assert dice(disk_target(10) < 0, disk_target(14) < 0) < 0.8


@pytest.mark.parametrize("mask", [star(), np.hypot(*grid(64)) < 5, grid(64)[0] > 3])
def test_equal_maps_cost_nothing(mask):
    phi = target_of(mask)[None, None]
    terms = LevelSetLoss()(phi, phi)
    assert (terms.total.item(), terms.regression.item(), terms.curvature.item()) == (0, 0, 0)
    assert terms.constant.item() == regression_loss(phi.mean().expand_as(phi), phi).item()


@pytest.mark.parametrize("level", [1.0, 0.9, -0.6])
def test_a_constant_is_its_own_constant(level):
    phi = torch.stack([disk_target(9), disk_target(20)])[None]
    terms = LevelSetLoss()(torch.full_like(phi, level), phi)
    assert terms.constant.item() == pytest.approx(terms.regression.item(), rel=1e-5)
    assert terms.constant.item() > 0.1


def test_few_near_pixels_have_little_weight():
    phi = torch.ones(1, 1, 100, 100)
    phi[..., 50, 50] = 0.9  # one of 10,000: 0.01 %
    phi_hat = torch.ones_like(phi).requires_grad_()
    loss = regression_loss(phi_hat - 1, phi)
    (gradient,) = torch.autograd.grad(loss, phi_hat)
    assert gradient[..., 50, 50].item() == pytest.approx(-0.05, rel=1e-3)  # 0.5 x 0.01 % / 0.1 %
    assert gradient.sum().item() == pytest.approx(-1, rel=1e-3)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_predicted_where_the_target_is_unknown_does_not_matter(value):
    phi = torch.full((1, 1, 8, 8), 0.5)
    phi[..., 0, 0] = math.nan
    phi_hat = torch.zeros_like(phi)
    phi_hat[..., 0, 0] = value
    phi_hat.requires_grad_()
    loss = regression_loss(phi_hat, phi)
    (gradient,) = torch.autograd.grad(loss, phi_hat)
    assert loss.item() == pytest.approx(0.45)
    assert gradient[..., 0, 0].item() == 0
    assert gradient.isfinite().all()


def test_total_is_the_weighted_sum_and_the_parts_are_for_the_log():
    phi, phi_hat = star_pair()
    loss = LevelSetLoss(regression_weight=2.0, curvature_weight=0.5)
    loss.curvature_scale = 0.25
    terms = loss(phi_hat, phi)
    assert terms.total.item() == pytest.approx(2 * terms.regression.item() + 0.125 * terms.curvature.item())
    assert not terms.regression.requires_grad
    assert not terms.curvature.requires_grad
    assert terms.regression.item() == pytest.approx(regression_loss(phi_hat, phi).item())
    assert terms.curvature.item() == pytest.approx(curvature_loss(phi_hat, phi).item())
    assert terms.curvature.item() > 0.05


def star_pair():
    phi = target_of(star())[None, None]
    return phi, noise_like(phi).requires_grad_()


def test_scale_zero_leaves_only_the_regression_gradient():
    phi, phi_hat = star_pair()
    loss = LevelSetLoss()
    loss.curvature_scale = 0.0
    (found,) = torch.autograd.grad(loss(phi_hat, phi).total, phi_hat)
    (expected,) = torch.autograd.grad(regression_loss(phi_hat, phi), phi_hat)
    torch.testing.assert_close(found, expected)


def test_straight_prediction_of_a_disk_is_off_by_the_curvature_of_the_disk():
    y, x = grid(128)
    disk = torch.from_numpy(np.tanh((np.hypot(y, x) - 30) / BAND))
    straight = torch.from_numpy(x / 64)
    assert curvature_loss(straight, disk).item() == pytest.approx(1 / 30, rel=0.02)


def test_unresolvable_curvature_is_compressed_but_keeps_its_gradient():
    kappa = torch.tensor([0.1, 1.0, 2 * math.sqrt(2)], dtype=torch.float64, requires_grad=True)
    compressed = module._compress(kappa, 1.0)
    assert compressed[0].item() == pytest.approx(0.1, rel=0.003)
    assert compressed[2].item() < 2
    assert (torch.autograd.grad(compressed.sum(), kappa)[0] > 0.3).all()


def test_regression_is_smooth_l1_over_known_pixels():
    phi = torch.tensor([[0.5, math.nan, -0.2]])
    phi_hat = torch.tensor([[0.45, 7.0, 0.8]])
    expected = (0.05**2 / (2 * 0.1) + (1.0 - 0.05)) / 2
    assert regression_loss(phi_hat, phi).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [1.0, -1.0, math.nan])
@pytest.mark.parametrize("prediction", [0.0, 1.0, "noise"])
def test_without_a_boundary_the_curvature_is_zero_and_everything_finite(value, prediction):
    phi = torch.full((2, 2, 24, 24), value)
    phi_hat = noise_like(torch.zeros_like(phi)) if prediction == "noise" else torch.full_like(phi, prediction)
    terms, grad = assert_finite_and_connected(LevelSetLoss(), phi_hat, phi)
    assert terms.curvature == 0
    if math.isnan(value):
        assert terms.total == 0
        assert (grad == 0).all()


def test_flat_prediction_of_a_real_shape_has_finite_gradients():
    phi = target_of(star())[None, None]
    for level in (0.0, 1.0):
        assert_finite_and_connected(LevelSetLoss(), torch.full_like(phi, level), phi)


def test_unknown_pixels_get_no_gradient_and_have_no_say():
    phi = target_of(star())[None, None]
    phi[..., 20:30, 10:40] = math.nan
    first, second = noise_like(phi.nan_to_num()), noise_like(phi.nan_to_num())
    second[phi.isnan()] = 5.0
    loss = LevelSetLoss()
    terms, grad = assert_finite_and_connected(loss, first, phi)
    assert (grad[phi.isnan()] == 0).all()
    assert (grad[~phi.isnan()] != 0).any()
    torch.testing.assert_close(loss(second, phi).total, terms.total)
    # Beside the unknown area the curvature's stencil would see it.
    assert curvature_loss(first, phi) > 0


def test_gradient_in_float64():
    mask = np.hypot(*grid(14)) < 4
    phi = target_of(mask)[None, None].double()
    phi[..., 0, 0] = math.nan
    phi_hat = noise_like(phi.nan_to_num()).requires_grad_()
    options = {"band": BAND, "smoothing": 0.0}
    assert torch.autograd.gradcheck(lambda p: LevelSetLoss(curvature_weight=1.0, **options)(p, phi).total, phi_hat)
    phi = target_of(np.hypot(*grid(14)) < 4)[None, None].double()
    assert torch.autograd.gradcheck(lambda p: curvature_loss(p, phi, smoothing=1.0, spacing=(1, 2)), phi_hat)
    assert curvature_loss(phi_hat, phi).dtype == torch.float64


def test_flips_and_turns_change_nothing():
    phi, phi_hat = star_pair()
    phi_hat = phi_hat.detach()
    expected = LevelSetLoss()(phi_hat, phi).total
    for turn in (lambda m: m.flip(-1), lambda m: m.flip(-2), lambda m: m.rot90(1, (-2, -1)), lambda m: m.mT):
        torch.testing.assert_close(LevelSetLoss()(turn(phi_hat), turn(phi)).total, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(LevelSetLoss()(-phi_hat, -phi).total, expected, rtol=1e-5, atol=1e-6)


def test_several_classes_count_by_their_pixels():
    phi = torch.stack([disk_target(8), disk_target(20), target_of(star()), torch.ones(64, 64)])[None]
    phi[:, 1, :10] = math.nan
    phi_hat = noise_like(phi.nan_to_num())
    terms = LevelSetLoss()(phi_hat, phi)
    single = [LevelSetLoss()(phi_hat[:, [k]], phi[:, [k]]) for k in range(4)]
    near = [narrow_band(phi[:, k], 3.0, BAND, stencil_radius=7).sum().item() for k in range(4)]
    assert near[3] == 0
    error = (phi_hat - phi).abs().numpy()
    error = np.where(error < 0.1, error**2 / 0.2, error - 0.05)
    far = phi.abs().numpy() >= np.tanh(2)
    regression = (error[~far & ~np.isnan(error)].mean() + error[far].mean()) / 2
    bend = np.average([t.curvature.item() for t in single], weights=near)
    assert terms.regression.item() == pytest.approx(regression, rel=1e-5)
    assert terms.curvature.item() == pytest.approx(bend, rel=1e-5)


def whole_curvature_loss(phi_hat, phi):
    """The curvature term with its defaults, computed on whole maps: no rectangle is cut out."""
    near = narrow_band(phi, 3.0, BAND, stencil_radius=7)

    def squeezed(level_set):
        kappa = curvature(level_set, smoothing=2.0, eps=0.03 / BAND)
        return kappa / (1 + kappa**2) ** 0.25

    difference = (squeezed(phi_hat) - squeezed(torch.nan_to_num(phi))).abs()
    return (difference * near).sum() / near.sum()


def test_rectangles_around_the_band_change_neither_value_nor_gradient():
    phi = torch.stack([disk_target(8), target_of(star()), target_of(grid(64)[0] > 20), torch.ones(64, 64)])[None]
    phi[:, 1, 30:34, 50:] = math.nan
    phi_hat = noise_like(phi.nan_to_num()).requires_grad_()
    cropped = curvature_loss(phi_hat, phi)
    (cropped_grad,) = torch.autograd.grad(cropped, phi_hat)
    whole = whole_curvature_loss(phi_hat, phi)
    (whole_grad,) = torch.autograd.grad(whole, phi_hat)
    torch.testing.assert_close(cropped, whole)
    torch.testing.assert_close(cropped_grad, whole_grad, rtol=1e-3, atol=1e-6)


def test_half_precision_and_autocast_compute_in_single():
    phi, phi_hat = star_pair()
    half = phi_hat.detach().bfloat16()
    expected = LevelSetLoss()(half.float(), phi).total
    assert LevelSetLoss()(half, phi).total.dtype == torch.float32
    torch.testing.assert_close(LevelSetLoss()(half, phi).total, expected, rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(LevelSetLoss()(half, phi).total, expected, rtol=0, atol=0)
        _, grad = assert_finite_and_connected(LevelSetLoss(), half, phi)
    assert grad.dtype == torch.bfloat16


def test_inputs_stay():
    phi, phi_hat = star_pair()
    phi[..., 3, 3] = math.nan
    before = phi.clone(), phi_hat.detach().clone()
    LevelSetLoss()(phi_hat, phi).total.backward()
    torch.testing.assert_close(phi, before[0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(phi_hat.detach(), before[1], rtol=0, atol=0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        LevelSetLoss()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8))


def test_descent_recovers_the_shape():
    phi = target_of(star())[None, None]
    phi_hat = torch.nn.Parameter(noise_like(torch.zeros_like(phi), 0.1))
    optimizer = torch.optim.Adam([phi_hat], lr=0.05)
    loss = LevelSetLoss()
    for _ in range(120):
        optimizer.zero_grad()
        loss(phi_hat, phi).total.backward()
        optimizer.step()
    assert dice(phi_hat < 0, phi < 0) > 0.99
    assert loss(phi_hat, phi).regression < 0.01


def test_curvature_alone_rounds_a_star_towards_a_disk():
    target = torch.from_numpy(np.tanh((np.hypot(*grid(64)) - 18) / BAND)).float()[None, None]
    phi_hat = torch.nn.Parameter(target_of(star(amplitude=2))[None, None].clone())
    optimizer = torch.optim.Adam([phi_hat], lr=0.01)
    start = curvature_loss(phi_hat, target).item()
    overlap = dice(phi_hat < 0, target < 0)
    for _ in range(150):
        optimizer.zero_grad()
        value = curvature_loss(phi_hat, target)
        value.backward()
        optimizer.step()
    assert value.item() < 0.3 * start
    assert dice(phi_hat < 0, target < 0) > overlap
