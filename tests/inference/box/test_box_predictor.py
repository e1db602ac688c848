import tracemalloc

import numpy as np
import pytest
import torch
from helpers.fakes import FakeBackend, bright_backend, disk, dsc, halfway, prompt_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.geometry.boxes import box_of_mask
from nnsam.inference import BoxModelSpec, BoxPredictor, Prediction, TorchBackend, faithful_passes
from nnsam.inference.box.prediction import OVERLAPS
from nnsam.networks import build_box_unet
from nnsam.prompts.convention import to_challenge

MODES = ("zoom", "faithful")


@pytest.fixture(scope="module")
def small_network():
    torch.manual_seed(0)
    network = build_box_unet("small", image_channels=1)
    with torch.no_grad():  # random weights that answer neither "all" nor "nothing"
        network.decoder.seg_layers[-1].weight.mul_(5)
    return network


def network_predictor(network, **options):
    return BoxPredictor(TorchBackend(network, BoxModelSpec((32, 48), 1).to_manifest()), **options)


def random_boxes(rng, shape, count):
    low = np.array([rng.integers(0, size, count) for size in shape])
    high = np.array([rng.integers(first, size) for first, size in zip(low, shape, strict=True)])
    return np.concatenate([low[::-1], high[::-1]]).T


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_prompt_comes_back_as_its_box(mode, seed):
    """Prompt in patch coordinates, and the way back, fit together for any box."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 200, size=2)
    boxes = random_boxes(rng, shape, 4)
    prediction = BoxPredictor(prompt_backend()).set_image(rng.random(shape)).predict(boxes, mode)
    for found, probability in zip(prediction.masks, prediction.probabilities, strict=True):
        y0, x0, y1, x1 = found.origin
        assert found.mask.shape == probability.shape == (y1 - y0, x1 - x0)
        if mode == "faithful":
            assert found.mask.all()
        else:  # a rim of one patch pixel may be lost; at most half of it after interpolation
            rim = 1 + int(max(y1 - y0, x1 - x0) / 20)
            inner = found.mask[rim:-rim, rim:-rim]
            assert inner.all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_disk_in_a_large_image_is_found(mode, dtype):
    mask = disk((3024, 4032), (1500.3, 2100.8), 700.5)
    image = np.where(mask, 200, 50).astype(dtype)
    box = box_of_mask(mask)
    predictor = BoxPredictor(bright_backend(halfway(mask), patch_size=(224, 288))).set_image(image)
    prediction = predictor.predict(to_challenge(box), mode)
    assert dsc(prediction.full_mask(0), mask) > (0.9999 if mode == "faithful" else 0.995)
    assert prediction.passes == (1 if mode == "zoom" else faithful_passes(box, mask.shape, (224, 288)))
    assert prediction.scores[0] > 0.8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("centre", "radius"), [((40, 40), 9.5), ((5, 5), 30), ((90, 120), 3), ((50, 60), 70)])
def test_disks_of_any_size_and_place_are_found(mode, centre, radius):
    mask = disk((101, 131), centre, radius)
    image = np.repeat(np.where(mask, 9.5, -3.25)[..., None], 3, axis=2)
    predictor = BoxPredictor(bright_backend(halfway(mask), image_channels=3)).set_image(image)
    prediction = predictor.predict(to_challenge(box_of_mask(mask)), mode)
    assert dsc(prediction.full_mask(0), mask) > 0.97


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, 1])
def test_flipped_images_and_boxes_give_flipped_masks(mode, axis):
    mask = disk((90, 130), (40, 60), 25)
    image = mask + np.random.default_rng(0).normal(0, 0.1, mask.shape)
    box = box_of_mask(mask)
    flipped = np.flip(image, axis)
    predictor = BoxPredictor(bright_backend(1.0))
    first = predictor.set_image(image).predict(to_challenge(box), mode)
    second = predictor.set_image(flipped).predict(to_challenge(box_of_mask(np.flip(mask, axis))), mode)
    np.testing.assert_allclose(np.flip(second.probabilities[0], axis), first.probabilities[0], atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_boxes_does_not_matter(small_network, mode):
    rng = np.random.default_rng(1)
    image, boxes = rng.normal(size=(80, 90)), random_boxes(rng, (80, 90), 11)
    predictor = network_predictor(small_network, batch_size=4).set_image(image)
    first = predictor.predict(boxes, mode)
    order = rng.permutation(11)
    second = predictor.predict(boxes[order], mode)
    assert 0.02 < np.mean([found.mask.mean() for found in first.masks]) < 0.98, "the network decides something"
    for position, index in enumerate(order):
        assert np.array_equal(second.probabilities[position], first.probabilities[index])
    renamed = np.concatenate([[0], order + 1])
    assert np.array_equal(renamed[second.label_map()], first.label_map())
    assert np.array_equal(second.scores, first.scores[order])


@pytest.mark.parametrize("mode", MODES)
def test_the_batch_size_does_not_matter(small_network, mode):
    rng = np.random.default_rng(2)
    image, boxes = rng.normal(size=(80, 90)), random_boxes(rng, (80, 90), 9)
    alone, together = (
        network_predictor(small_network, batch_size=size).set_image(image).predict(boxes, mode) for size in (1, 8)
    )
    single = network_predictor(small_network).set_image(image).predict(boxes[4], mode)
    for first, second in zip(alone.probabilities, together.probabilities, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(single.probabilities[0], together.probabilities[4], atol=1e-5)
    assert alone.passes == together.passes


def test_batches_are_filled_over_boxes_and_doubles_computed_once():
    backend = prompt_backend()
    boxes = [[index, 2, index + 9, 20] for index in range(19)]
    prediction = BoxPredictor(backend, batch_size=8).set_image(np.ones((40, 50))).predict([*boxes, *boxes[:5]])
    assert backend.batches == [8, 8, 3]
    assert prediction.passes == 19
    assert len(prediction) == 24


def test_many_boxes_in_a_large_image_need_little_memory():
    image = np.random.default_rng(0).integers(0, 256, size=(1920, 2560, 3), dtype=np.uint8)
    boxes = random_boxes(np.random.default_rng(1), (1920, 2560), 241)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], boxes[:, :2] + 400)
    predictor = BoxPredictor(bright_backend(patch_size=(224, 288), image_channels=3))
    tracemalloc.start()
    try:
        predictor.set_image(image).predict(boxes).label_map()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5e9


def test_anisotropic_pixels_are_seen_in_their_true_proportions():
    seen = []

    def keep(patches):
        seen.append(patches[0].copy())
        return patches[:, 1]

    image = np.ones((60, 120))
    image[20:40, 40:80] = 2  # a square where pixels are twice as high as wide
    predictor = BoxPredictor(FakeBackend(keep, patch_size=(64, 64)))
    prediction = predictor.set_image(image, spacing=(2.0, 1.0)).predict([40, 20, 79, 39])
    rows, columns = np.ptp(np.argwhere(seen[0][1] > 0), axis=0) + 1
    assert abs(rows - columns) <= 1
    assert np.ptp(np.argwhere(seen[0][0] > 0), axis=0).tolist() == pytest.approx([rows, columns], abs=2)
    assert prediction.masks[0].mask.mean() > 0.9
    predictor.set_image(image).predict([40, 20, 79, 39])
    rows, columns = np.ptp(np.argwhere(seen[1][1] > 0), axis=0) + 1
    assert columns == pytest.approx(2 * rows, abs=2)


def test_a_hairline_box_is_still_a_prompt():
    prompts = []
    backend = FakeBackend(lambda patches: prompts.append(patches[:, 1].sum()) or patches[:, 1])
    BoxPredictor(backend).set_image(np.random.default_rng(0).random((2000, 50))).predict([[7, 3, 7, 1990]])
    assert prompts[0] > 10


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "no box"),
        ([[1, 2, 3]], "3 values"),
        ([[1, 1, 0, 5, 5, 5]], "without z"),
        ([[5, 1, 2, 3]], "x_min > x_max"),
        ([[0, 0, 51, 5]], "beyond the image"),
        ([[0, 0, float("nan"), 5]], "finite"),
        ("boxes", "numbers"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(boxes, words):
    predictor = BoxPredictor(prompt_backend()).set_image(np.ones((40, 50)))
    with pytest.raises(InputError, match=words):
        predictor.predict(boxes)


def test_wrong_use_is_told():
    predictor = BoxPredictor(prompt_backend())
    with pytest.raises(InputError, match="set_image first"):
        predictor.predict([[0, 0, 3, 3]])
    with pytest.raises(InputError, match="zoom or faithful"):
        predictor.set_image(np.ones((9, 9))).predict([[0, 0, 3, 3]], mode="fast")
    with pytest.raises(InputError, match="nan"):
        predictor.set_image(np.full((9, 9), np.nan))
    with pytest.raises(InputError, match="set_image first"):  # not the image before
        predictor.predict([[0, 0, 3, 3]])
    with pytest.raises(InputError, match="batch size"):
        BoxPredictor(prompt_backend(), batch_size=0)
    with pytest.raises(InputError, match="mask or box"):
        BoxPredictor(prompt_backend(), propagation="other")


def test_nothing_that_is_given_is_changed():
    image, boxes = np.random.default_rng(0).random((60, 70)), np.array([[3, 4, 30, 40], [3, 4, 9, 9]])
    copies = image.copy(), boxes.copy()
    image.flags.writeable = boxes.flags.writeable = False
    for mode in MODES:
        BoxPredictor(bright_backend()).set_image(image).predict(boxes, mode).label_map()
    assert np.array_equal(image, copies[0])
    assert np.array_equal(boxes, copies[1])


def prediction(shape, *objects):
    boxes = np.array([box for box, _ in objects])
    probabilities = [np.full((box[2] - box[0], box[3] - box[1]), value, np.float32) for box, value in objects]
    return Prediction(shape, boxes, probabilities, 0)


def test_overlaps_go_to_the_smaller_box_or_to_the_more_probable_object():
    found = prediction((4, 6), ((0, 0, 4, 4), 0.7), ((0, 2, 4, 6), 0.8), ((0, 0, 1, 1), 0.3))
    expected = np.repeat([[1, 1, 2, 2, 2, 2]], 4, axis=0)  # of equal sizes the more probable one wins, too
    for rule in OVERLAPS:
        assert np.array_equal(found.label_map(rule), expected)
    assert found.label_map().dtype == np.uint16
    assert found.scores.tolist() == pytest.approx([0.7, 0.8, 0])
    assert found.full_mask(1).sum() == 16
    assert not found.full_mask(2).any()
    nested = prediction((6, 6), ((1, 1, 5, 5), 0.6), ((0, 0, 6, 6), 0.9), ((2, 2, 4, 4), 0.55))
    smaller = np.full((6, 6), 2)
    smaller[1:5, 1:5], smaller[2:4, 2:4] = 1, 3
    assert np.array_equal(nested.label_map(), smaller)
    assert (nested.label_map("score") == 2).all()
    with pytest.raises(InputError, match="'larger' for overlaps is unknown; expected smaller or score"):
        nested.label_map("larger")


def test_ties_go_to_the_smaller_box_then_to_the_first_in_array_order():
    large, small = ((0, 0, 4, 4), 0.9), ((1, 1, 3, 3), 0.9)
    left, right = ((0, 0, 2, 3), 0.9), ((0, 1, 2, 4), 0.9)
    for rule in OVERLAPS:
        for objects, value in (((large, small), 2), ((small, large), 1)):
            assert (prediction((4, 4), *objects).label_map(rule)[1:3, 1:3] == value).all()
        assert prediction((2, 4), left, right).label_map(rule)[0].tolist() == [1, 1, 1, 2]
        assert prediction((2, 4), right, left).label_map(rule)[0].tolist() == [2, 2, 2, 1]
        assert (prediction((2, 4), left, left).label_map(rule)[0] == [1, 1, 1, 0]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_smaller_box_keeps_its_whole_mask_whatever_the_order(data):
    shape = data.draw(st.sampled_from([(12, 15), (5, 8, 9)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    count, half = data.draw(st.integers(1, 6)), len(shape)
    low = np.array([[rng.integers(0, side) for side in shape] for _ in range(count)])
    high = np.array(
        [[rng.integers(start + 1, side + 1) for start, side in zip(row, shape, strict=True)] for row in low]
    )
    boxes = np.concatenate([low, high], axis=1)
    probabilities = [rng.random(tuple(box[half:] - box[:half]), np.float32) for box in boxes]
    found = Prediction(shape, boxes, probabilities, 0)
    labels = found.label_map()
    sizes = np.array([values.size for values in probabilities])
    for pixel in np.ndindex(shape):
        here = [index for index in range(count) if found.full_mask(index)[pixel]]
        if not here:
            assert labels[pixel] == 0
        else:
            winner = int(labels[pixel]) - 1
            assert winner in here
            assert sizes[winner] == sizes[here].min()
    order = rng.permutation(count)
    turned = Prediction(shape, boxes[order], [probabilities[index] for index in order], 0)
    distinct = len({tuple(box) for box in boxes.tolist()}) == count
    if distinct:
        for rule in OVERLAPS:
            names = np.array([0, *(order + 1)])
            assert np.array_equal(names[turned.label_map(rule)], found.label_map(rule))
