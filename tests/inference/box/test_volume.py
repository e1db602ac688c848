import itertools

import numpy as np
import pytest
from helpers.fakes import FakeBackend, bright_backend, dsc, prompt_backend

from nnsam.errors import InputError
from nnsam.geometry.boxes import box_of_mask, permute
from nnsam.inference import BoxPredictor, Propagation
from nnsam.prompts.convention import to_challenge


def ball(shape, centre, radius):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (z + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 + (x + 0.5 - centre[2]) ** 2 < radius**2


def volume_of(mask):
    return np.where(mask, 200, 50).astype(np.uint8)


def boxes_of(*masks):
    return [to_challenge(box_of_mask(mask)) for mask in masks]


@pytest.mark.parametrize("propagation", ["ellipsoid", "mask", "box"])
@pytest.mark.parametrize("mode", ["zoom", "faithful"])
@pytest.mark.parametrize("per_slice", [True, False])
def test_a_ball_is_followed_to_its_ends(propagation, mode, per_slice):
    mask = ball((30, 60, 70), (14.5, 30, 35), 12)
    backend = bright_backend(per_slice_normalization=per_slice)
    predictor = BoxPredictor(backend, propagation=propagation).set_image(volume_of(mask))
    prediction = predictor.predict(boxes_of(mask), mode)
    assert dsc(prediction.full_mask(0), mask) > 0.97
    assert prediction.masks[0].mask.any(axis=(1, 2)).all()
    if mode == "zoom":
        assert prediction.passes == 23  # one per slice


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("mode", ["zoom", "faithful"])
@pytest.mark.parametrize("per_slice", [True, False])
def test_axes_are_those_of_training_whatever_the_files(order, mode, per_slice):
    """A model that was trained on transposed volumes finds in such a volume what it finds in the transposed one."""
    rng = np.random.default_rng(0)
    masks = [ball((12, 60, 70), (5, 22, 24), 6), ball((12, 60, 70), (6.5, 40, 45), 8)]
    trained = volume_of(np.any(masks, axis=0)) + rng.integers(0, 9, (12, 60, 70)).astype(np.uint8)
    spacing = (4.0, 0.9, 0.6)
    options = {"per_slice_normalization": per_slice, "spacing": (0.8, 0.8)}
    boxes = np.array([box_of_mask(mask) for mask in masks])
    expected = BoxPredictor(bright_backend(**options)).set_image(trained, spacing).predict_inside(boxes, mode)
    back = np.argsort(order)
    stored = np.ascontiguousarray(trained.transpose(back))
    predictor = BoxPredictor(bright_backend(**options, transpose=order))
    predictor.set_image(stored, [spacing[axis] for axis in back])
    found = predictor.predict_inside(permute(boxes, back), mode)
    assert found.shape == stored.shape
    for index in range(2):
        assert expected.full_mask(index).any()
        np.testing.assert_array_equal(found.full_mask(index), expected.full_mask(index).transpose(back))
        assert found.probabilities[index].flags.c_contiguous
    np.testing.assert_array_equal(found.label_map().transpose(order), expected.label_map())
    assert found.scores == pytest.approx(expected.scores)
    assert found.passes == expected.passes
    # in the users' convention, too
    again = predictor.predict(to_challenge(permute(boxes, back)), mode)
    np.testing.assert_array_equal(again.label_map(), found.label_map())


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_pictures_have_no_axis_to_choose(order):
    mask = ball((1, 60, 70), (0.5, 30, 35), 12)[0]
    for shape in (mask.shape, (*mask.shape, 1)):
        predictor = BoxPredictor(bright_backend(transpose=order)).set_image(volume_of(mask).reshape(shape))
        assert dsc(predictor.predict(boxes_of(mask)).full_mask(0), mask) > 0.97


def test_what_is_normalised_already_is_taken_as_it_is():
    rng = np.random.default_rng(0)
    image = rng.normal(3, 7, (40, 50)).astype(np.float32)
    image[:5] = 0  # not cut off either
    seen = []
    backend = FakeBackend(lambda patches: seen.append(patches.copy()) or np.ones_like(patches[:, 0]))
    BoxPredictor(backend).set_image(image, is_normalized=True).predict_inside(np.array([[4, 2, 36, 50]]), "faithful")
    values = np.concatenate([patches[:, 0].ravel() for patches in seen])
    assert set(np.round(image[6:36, 2:48].ravel(), 4)) <= set(np.round(values, 4))


def test_a_leaning_cylinder_is_followed_and_its_neighbour_is_not():
    """The second object lies in the same 3D box; only following the first through the slices keeps them apart."""
    shape = (20, 60, 120)
    y, x = np.ogrid[:60, :120]
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    for z in range(20):
        first[z] = (y - 30) ** 2 + (x - 20 - 3 * z) ** 2 < 64
        second[z] = (y - 30) ** 2 + (x - 80 + 3 * z) ** 2 < 36 if abs(z - 10) > 7 else False
    box = boxes_of(first)
    results = {}
    for propagation in ("mask", "box"):
        predictor = BoxPredictor(bright_backend(), propagation=Propagation(propagation, margin=0, min_margin=4))
        results[propagation] = predictor.set_image(volume_of(first | second)).predict(box).full_mask(0)
    assert dsc(results["mask"], first) > 0.93
    assert dsc(results["box"], first) < dsc(results["mask"], first)


def test_it_stops_where_the_object_ends_but_never_before_it_was_found():
    mask = ball((40, 40, 40), (20, 20, 20), 10)
    volume = volume_of(mask)
    backend = bright_backend(per_slice_normalization=False)
    predictor = BoxPredictor(backend, propagation=Propagation(patience=2)).set_image(volume)
    prediction = predictor.predict([[8, 8, 0, 31, 31, 39]])  # longer than the ball
    assert dsc(prediction.full_mask(0), mask) > 0.97
    assert prediction.passes == 20 + 2 * 2
    # The ball lies off the middle slice, which is empty: every slice is tried.
    below = predictor.predict([[8, 8, 0, 31, 31, 25]])
    assert below.passes <= 26
    hidden = np.zeros((30, 40, 40), np.uint8)
    hidden[...] = 50
    hidden[22:28, 10:30, 10:30] = 200
    found = predictor.set_image(hidden).predict([[5, 5, 0, 35, 35, 29]])
    assert dsc(found.full_mask(0), hidden == 200) > 0.97


def test_slices_are_batched_over_objects_and_directions():
    mask = ball((24, 50, 50), (12, 25, 25), 10)
    backend = bright_backend()
    z0, z1 = 2, 22
    boxes = [[10 + shift, 10, z0, 40, 40, z1 - 1] for shift in range(4)]
    BoxPredictor(backend, propagation="box", batch_size=8).set_image(volume_of(mask)).predict(boxes)
    assert backend.batches[0] == 4
    assert set(backend.batches[1:-1]) == {8}
    assert sum(backend.batches) == 4 * 20


def test_the_order_of_boxes_does_not_matter():
    masks = [ball((20, 50, 60), (10, 25, 20 + 12 * index), 8) for index in range(3)]
    predictor = BoxPredictor(bright_backend()).set_image(volume_of(np.any(masks, axis=0)))
    boxes = boxes_of(*masks)
    first, second = predictor.predict(boxes), predictor.predict(boxes[::-1])
    for index in range(3):
        assert np.array_equal(first.probabilities[index], second.probabilities[2 - index])
    assert set(np.unique(first.label_map())) == {0, 1, 2, 3}


@pytest.mark.parametrize("propagation", ["ellipsoid", "mask", "box"])
def test_the_object_never_leaves_its_box(propagation):
    prediction = (
        BoxPredictor(FakeBackend(lambda patches: np.ones_like(patches[:, 0])), propagation=propagation)
        .set_image(np.ones((9, 20, 30)))
        .predict([[3, 4, 2, 12, 15, 6]])
    )
    expected = np.zeros((9, 20, 30), bool)
    expected[2:7, 4:16, 3:13] = True
    assert not (prediction.full_mask(0) & ~expected).any()
    assert prediction.full_mask(0)[4].sum() == 12 * 10  # the middle slice
    if propagation != "ellipsoid":
        assert np.array_equal(prediction.full_mask(0), expected)


def test_prompts_are_the_mask_before_with_a_margin():
    seen = []

    def middle_third(patches):
        seen.append(np.count_nonzero(patches[0, 1]))
        return patches[:, 1] * (np.abs(np.arange(patches.shape[2]) - patches.shape[2] / 2) < 3)[:, None]

    backend = FakeBackend(middle_third, patch_size=(32, 32))
    predictor = BoxPredictor(backend, propagation=Propagation("mask", margin=0, min_margin=1))
    prediction = predictor.set_image(np.ones((3, 32, 32))).predict([[0, 0, 0, 31, 31, 2]])
    heights = prediction.masks[0].mask.any(axis=2).sum(axis=1)
    assert heights[1] > heights[0] > 0
    assert heights[1] > heights[2] > 0
    assert len(seen) == 2  # the middle, then both neighbours in one batch


def test_single_slices_colour_and_spacing():
    mask = ball((1, 40, 50), (0.5, 20, 25), 10)
    volume = np.repeat(volume_of(mask)[..., None], 3, axis=-1)
    backend = bright_backend(image_channels=3, spacing=(1.0, 1.0), per_slice_normalization=False)
    predictor = BoxPredictor(backend).set_image(volume, spacing=(5.0, 0.5, 0.5))
    for mode in ("zoom", "faithful"):
        assert dsc(predictor.predict(boxes_of(mask), mode).full_mask(0), mask) > 0.94


@pytest.mark.parametrize(
    ("boxes", "words"),
    [([[1, 1, 5, 5]], "z_min"), ([[1, 1, 0, 5, 5, 10]], "its z runs from 0 to 8"), ([], "no box")],
)
def test_boxes_that_do_not_fit_are_refused(boxes, words):
    predictor = BoxPredictor(prompt_backend()).set_image(np.ones((9, 20, 30)))
    with pytest.raises(InputError, match=words):
        predictor.predict(boxes)


@pytest.mark.parametrize(
    "options", [{"prompt": "x"}, {"margin": -1}, {"min_margin": -1}, {"stop_share": 1}, {"patience": 0}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        Propagation(**options)


def test_ellipsoid_prompts_are_cross_sections_of_the_inscribed_ellipsoid():
    """A network that fills its prompt gives rectangles of sides sqrt(1 - z^2), together 2/3 of the box."""
    predictor = BoxPredictor(prompt_backend(), propagation=Propagation("ellipsoid", smallest=0.01))
    mask = predictor.set_image(np.zeros((64, 90, 90), np.uint8)).predict([[10, 10, 2, 79, 79, 61]]).masks[0].mask
    assert mask.mean() == pytest.approx(2 / 3, rel=0.03)
    widths = mask.any(axis=1).sum(axis=1)
    heights = (np.arange(60) + 0.5 - 30) / 30
    np.testing.assert_allclose(widths, 70 * np.sqrt(1 - heights**2), atol=2.5)
    assert (widths == widths[::-1]).all()


def test_ellipsoid_prompts_keep_a_smallest_share_and_follow_the_object():
    def last_slice(follow):
        mask = np.zeros((20, 60, 60), bool)
        mask[:, 6:16, 6:16] = True
        predictor = BoxPredictor(bright_backend(), propagation=Propagation("ellipsoid", smallest=0.5, follow=follow))
        prediction = predictor.set_image(volume_of(mask)).predict([[5, 5, 0, 54, 54, 19]])
        return prediction.masks[0].mask[-1]

    assert not last_slice(follow=0.0).any()  # the middle half of the box, where nothing bright lies
    assert last_slice(follow=1.0).sum() == 100
