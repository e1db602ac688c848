import numpy as np
import pytest
from scipy import ndimage

from nnsam.errors import InputError
from nnsam.metrics import average_surface_distance, hausdorff95, surface_dice
from nnsam.metrics.surface import surface_distances


def square(top: int, left: int, side: int = 10, shape=(40, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def disk(radius: float, side: int = 121) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side // 2
    return np.hypot(y, x) < radius


def random_blobs(seed: int, ndim: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two masks that are neither empty nor alike in shape, and an anisotropic spacing."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(6, 40 if ndim == 2 else 16, ndim))
    masks = []
    for _ in range(2):
        smooth = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.3, 2))
        masks.append(smooth > np.quantile(smooth, rng.uniform(0.3, 0.95)))
    return masks[0], masks[1], tuple(rng.uniform(0.3, 4, ndim))


def test_equal_masks_are_at_no_distance():
    mask = square(5, 8)
    assert average_surface_distance(mask, mask) == 0
    assert hausdorff95(mask, mask) == 0
    assert surface_dice(mask, mask, tolerance=0) == 1


def test_concentric_disks_are_apart_by_the_difference_of_their_radii():
    inner, outer = disk(30), disk(40)
    # Surfels sit on both the inner and the outer corners of the staircase, and the nearest one counts.
    assert average_surface_distance(inner, outer) == pytest.approx(10, abs=0.4)
    assert hausdorff95(inner, outer) == pytest.approx(10, abs=0.4)
    assert surface_dice(inner, outer, tolerance=8.5) == 0
    assert surface_dice(inner, outer, tolerance=11) == 1


def test_shifted_half_image_is_away_by_the_shift():
    left, right = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    left[:, :100] = True
    right[:, :103] = True
    # The shared three sides are at distance 0, so that only part of the contour is 3 pixels away.
    assert hausdorff95(left, right) == 3
    assert surface_dice(left, right, tolerance=3) == 1
    assert surface_dice(left, right, tolerance=2.9) < 0.8


def test_spacing_scales_distances_along_its_own_axis():
    first, down, sideways = square(5, 5), square(9, 5), square(5, 9)
    assert hausdorff95(first, down, (3.0, 1.0)) == pytest.approx(3 * hausdorff95(first, down, (1.0, 1 / 3)))
    assert hausdorff95(first, down, (3.0, 1.0)) == 12
    assert hausdorff95(first, sideways, (3.0, 1.0)) == 4
    assert average_surface_distance(first, down, (2.5, 2.5)) == pytest.approx(
        2.5 * average_surface_distance(first, down)
    )


@pytest.mark.parametrize("seed", range(6))
def test_scores_do_not_depend_on_order_position_or_orientation(seed):
    first, second, spacing = random_blobs(seed, 2)

    def scores(a, b, step):
        return [
            average_surface_distance(a, b, step),
            hausdorff95(a, b, step),
            surface_dice(a, b, step, tolerance=1.1),
        ]

    expected = scores(first, second, spacing)
    padded = [np.pad(mask, ((3, 0), (5, 2))) for mask in (first, second)]
    assert scores(second, first, spacing) == pytest.approx(expected)
    assert scores(*padded, spacing) == pytest.approx(expected)
    assert scores(first[::-1], second[::-1], spacing) == pytest.approx(expected)
    assert scores(first.T, second.T, spacing[::-1]) == pytest.approx(expected)


def test_pooled_mean_weighs_surfaces_by_size():
    small, large = square(0, 0, 2), square(20, 20, 18)
    distances = surface_distances(small, large)
    directed = (
        np.average(distances.from_prediction, weights=distances.prediction_sizes),
        np.average(distances.from_reference, weights=distances.reference_sizes),
    )
    share = distances.prediction_sizes.sum() / (distances.prediction_sizes.sum() + distances.reference_sizes.sum())
    assert share < 0.15
    pooled = average_surface_distance(small, large)
    assert pooled == pytest.approx(share * directed[0] + (1 - share) * directed[1])
    assert pooled != pytest.approx(sum(directed) / 2, rel=0.01)


def test_empty_masks_are_never_perfect():
    empty, full = np.zeros((30, 40), bool), square(3, 3, 5, (30, 40))
    for prediction, reference in ((empty, full), (full, empty)):
        for distance in (average_surface_distance, hausdorff95):
            assert np.isnan(distance(prediction, reference, (2.0, 1.0)))
            assert distance(prediction, reference, (2.0, 1.0), empty="worst") == np.hypot(60, 40)
        assert surface_dice(prediction, reference, tolerance=1000) == 0
    for policy in ("nan", "worst"):
        assert np.isnan(average_surface_distance(empty, empty, empty=policy))
        assert np.isnan(hausdorff95(empty, empty, empty=policy))
    assert np.isnan(surface_dice(empty, empty, tolerance=1))


def test_masks_are_not_changed():
    first, second, spacing = random_blobs(0, 2)
    before = first.copy(), second.copy()
    average_surface_distance(first, second, spacing)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"spacing": (1.0,)}, "must hold 2 values"),
        ({"spacing": (1.0, 0.0)}, "positive and finite"),
        ({"spacing": (1.0, float("nan"))}, "positive and finite"),
        ({"empty": "zero"}, "found 'zero'"),
    ],
)
def test_bad_options_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        hausdorff95(square(1, 1), square(2, 2), **arguments)


def test_volumes_need_a_spacing_and_tolerances_a_sign():
    volume = np.ones((2, 3, 4), bool)
    with pytest.raises(InputError, match="need spacing"):
        hausdorff95(volume, volume)
    with pytest.raises(InputError, match="at least 0"):
        surface_dice(volume, volume, (1, 1, 1), tolerance=-1)


def oracle_scores(package, prediction, reference, spacing, tolerances):
    distances = package.compute_surface_distances(reference, prediction, spacing)
    directed = package.compute_average_surface_distance(distances)
    sizes = distances["surfel_areas_gt"].sum(), distances["surfel_areas_pred"].sum()
    pooled = (directed[0] * sizes[0] + directed[1] * sizes[1]) / sum(sizes)
    return [
        pooled,
        package.compute_robust_hausdorff(distances, 95),
        package.compute_robust_hausdorff(distances, 100),
        *(package.compute_surface_dice_at_tolerance(distances, tolerance) for tolerance in tolerances),
    ]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(15))
def test_scores_equal_those_of_the_reference_implementation(oracle, seed, ndim):
    prediction, reference, spacing = random_blobs(seed, ndim)
    tolerances = (0.0, 0.5, 2.0, 5.0)
    distances = surface_distances(prediction, reference, spacing)
    ours = [distances.average(), distances.robust_hausdorff(95), distances.robust_hausdorff(100)]
    ours += [distances.dice(tolerance) for tolerance in tolerances]
    assert ours == pytest.approx(oracle_scores(oracle, prediction, reference, spacing, tolerances), abs=1e-9)


def test_the_oracle_comparison_can_fail(oracle):
    prediction, reference, spacing = random_blobs(0, 3)
    ours = average_surface_distance(prediction, reference, spacing[::-1])
    assert ours != pytest.approx(oracle_scores(oracle, prediction, reference, spacing, ())[0], rel=1e-3)
