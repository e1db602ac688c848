import numpy as np
import pytest
import torch
from helpers.fakes import FakeBackend, bright_backend, disk, dsc, halfway, prompt_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from nnsam.geometry.boxes import box_of_mask
from nnsam.inference import BoxModelSpec, BoxPredictor, TorchBackend, faithful_passes
from nnsam.inference.box.faithful import tile_starts, tile_steps, tile_weights
from nnsam.networks import build_box_unet
from nnsam.prompts.convention import to_challenge


@given(st.integers(1, 300), st.integers(0, 4000), st.sampled_from([0.5, 0.25, 1.0]))
@settings(deadline=None)
def test_tile_steps_are_nnunets(patch, more, step):
    assert [tile_steps(patch + more, patch, step)] == compute_steps_for_sliding_window((patch + more,), (patch,), step)


@pytest.mark.parametrize("size", [(224, 288), (32, 48), (33, 7), (16, 16)])
def test_tile_weights_are_nnunets(size):
    expected = compute_gaussian(size, dtype=torch.float32, device=torch.device("cpu")).numpy()
    np.testing.assert_allclose(tile_weights(size), expected, rtol=1e-6)
    assert (tile_weights(size) > 0).all()


def test_passes_of_the_papers_rule():
    patch = (224, 288)
    # Alone in the middle: box + patch, so (box / half a patch) steps more than the first.
    assert faithful_passes((1000, 1000, 1001, 1001), (3024, 4032), patch) == 4
    assert faithful_passes((1000, 1000, 1112, 1144), (3024, 4032), patch) == 4
    assert faithful_passes((1000, 1000, 1113, 1145), (3024, 4032), patch) == 9
    # In a corner the region is cut to less than a patch.
    assert faithful_passes((0, 0, 50, 50), (3024, 4032), patch) == 1
    assert faithful_passes((0, 0, 3024, 4032), (3024, 4032), patch) == 26 * 27
    assert faithful_passes((0, 0, 100, 100), (100, 100), patch) == 1


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_backend_computes_as_many_patches_as_the_rule_says(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 150, size=2)
    low = rng.integers(0, shape)
    box = np.concatenate([low, rng.integers(low, shape) + 1])
    backend = prompt_backend(patch_size=(16, 24))
    prediction = BoxPredictor(backend).set_image(np.ones(shape)).predict(to_challenge(box), "faithful")
    assert backend.passes == prediction.passes == faithful_passes(box, shape, (16, 24))


def test_passes_in_a_large_image():
    image = np.zeros((3024, 4032), np.uint8)
    backend = FakeBackend(lambda patches: patches[:, 1], patch_size=(224, 288))
    predictor = BoxPredictor(backend, batch_size=16).set_image(image)
    boxes = np.array([[100, 200, 700, 900], [0, 0, 30, 30], [2900, 3900, 3024, 4032], [500, 0, 2500, 4032]])
    prediction = predictor.predict(to_challenge(boxes), "faithful")
    expected = [faithful_passes(box, image.shape, (224, 288)) for box in boxes]
    assert prediction.passes == sum(expected)
    assert expected[3] > 300
    assert all(found.mask.all() for found in prediction.masks)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_tiles_cover_the_box_and_stay_in_the_image_where_it_is_large_enough(seed):
    rng = np.random.default_rng(seed)
    shape, patch = rng.integers(1, 120, size=2), rng.integers(2, 40, size=2)
    low = rng.integers(0, shape)
    high = rng.integers(low, shape) + 1
    for axis, starts in enumerate(tile_starts([*low, *high], shape, patch)):
        covered = {pixel for start in starts for pixel in range(start, start + patch[axis])}
        assert covered >= set(range(low[axis], high[axis]))
        if shape[axis] >= patch[axis]:
            assert min(covered) >= 0
            assert max(covered) < shape[axis]


def test_tiles_are_merged_as_nnunets_sliding_window_does():
    """Against the plain formula with a real network: weighted mean of logits, then softmax."""
    torch.manual_seed(0)
    network = build_box_unet("small", image_channels=1).eval()
    rng = np.random.default_rng(0)
    image = rng.normal(size=(70, 90)).astype(np.float32)
    predictor = BoxPredictor(TorchBackend(network, BoxModelSpec((32, 48), 1).to_manifest())).set_image(image)
    found = predictor.predict([20, 10, 59, 49], "faithful").probabilities[0]
    stack = np.zeros((1, 2, 70, 90), np.float32)
    stack[0, 0] = (image - image.mean()) / image.std()
    stack[0, 1, 10:50, 20:60] = 1
    total, weight = np.zeros((2, 70, 90)), np.zeros((70, 90))
    gaussian = compute_gaussian((32, 48), dtype=torch.float32, device=torch.device("cpu")).numpy()
    # Region: rows 0..66 (10 - 16 is cut), columns 0..84 (20 - 24 is cut).
    rows, columns = compute_steps_for_sliding_window((66, 84), (32, 48), 0.5)
    for row in rows:
        for column in columns:
            here = (slice(row, row + 32), slice(column, column + 48))
            with torch.no_grad():
                logits = network(torch.from_numpy(stack[:, :, here[0], here[1]].copy()))[0].numpy()
            total[:, here[0], here[1]] += gaussian * logits
            weight[here] += gaussian
    inside = (slice(10, 50), slice(20, 60))
    logits = (total / np.where(weight > 0, weight, 1))[:, inside[0], inside[1]]
    expected = 1 / (1 + np.exp(logits[0] - logits[1]))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_known_pixel_sizes_are_brought_to_the_models():
    mask = disk((120, 160), (60, 80), 40)
    image = np.where(mask, 200, 50).astype(np.uint8)
    box = box_of_mask(mask)
    backend = bright_backend(halfway(mask), spacing=(1.0, 2.0))
    predictor = BoxPredictor(backend)
    same = predictor.set_image(image, spacing=(1.0, 2.0)).predict(to_challenge(box), "faithful")
    unknown = predictor.set_image(image).predict(to_challenge(box), "faithful")
    coarse = predictor.set_image(image, spacing=(0.5, 1.0)).predict(to_challenge(box), "faithful")
    fine = predictor.set_image(image, spacing=(2.0, 6.0)).predict(to_challenge(box), "faithful")
    assert np.array_equal(same.probabilities[0], unknown.probabilities[0])
    assert same.passes == faithful_passes(box, (120, 160), (32, 48))
    assert coarse.passes == faithful_passes(box // 2, (60, 80), (32, 48))
    assert fine.passes == faithful_passes(box * [2, 3, 2, 3], (240, 480), (32, 48))
    for prediction in (same, coarse, fine):
        assert dsc(prediction.full_mask(0), mask) > 0.97
