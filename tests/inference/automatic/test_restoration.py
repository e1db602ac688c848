import dataclasses

import numpy as np
import pytest
from helpers.nnunet_reference import (
    TinyNetworks,
    dataset_with,
    manifest_of,
    nnunet_export,
    nnunet_logits,
    nnunet_preprocess,
    plans_with,
    random_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.inference.automatic.preprocessing import preprocess
from nnsam.inference.automatic.resampling import Resampling
from nnsam.inference.automatic.restoration import to_probabilities, to_segmentation
from nnsam.inference.automatic.sliding_window import predict_logits

ZSCORE, CT, RGB = "ZScoreNormalization", "CTNormalization", "RGBTo01Normalization"
PLAIN = ({"background": 0, "a": 1, "b": 2}, None)
IGNORE = ({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
REGIONS = ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "spot": 3}, [1, 2, 3])
REGIONS_IGNORE = ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [1, 2])


def compare(image, spacing, plans, names, mirror_axes=None, folds=1, threads=1):
    """The whole way, with nnU-Net and without; asserts that all results are equal, returns the segmentation."""
    labels, order = names
    channels = len(image)
    dataset = dataset_with(labels, order, channels)
    manifest = manifest_of(plans, dataset, mirror_axes)
    patch = plans["configurations"]["tested"]["patch_size"]
    networks = TinyNetworks(channels, manifest["labels"]["outputs"], len(patch), folds)
    data, properties = nnunet_preprocess(image, spacing, plans, dataset)
    if not data.size:  # no voxel is left at the model's voxel size, and nnU-Net fails later
        with pytest.raises(InputError, match="check the image's voxel size"):
            preprocess(image, spacing, manifest)
        return None
    expected_logits = nnunet_logits(data, networks, plans, dataset, mirror_axes)
    expected = nnunet_export(expected_logits, properties, plans, dataset)
    _, expected_probabilities = nnunet_export(expected_logits, properties, plans, dataset, probabilities=True)

    prepared = preprocess(image, spacing, manifest, threads)
    logits = predict_logits(prepared.data, networks.of(manifest))
    assert np.array_equal(logits, expected_logits.numpy())
    segmentation = to_segmentation(logits, prepared, manifest, threads)
    assert segmentation.dtype == expected.dtype
    assert segmentation.shape == expected.shape == image.shape[1:]
    assert np.array_equal(segmentation, expected)
    probabilities = to_probabilities(logits, prepared, manifest, threads)
    assert probabilities.dtype == expected_probabilities.dtype == np.float32
    assert probabilities.shape == expected_probabilities.shape
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=0, atol=1e-6)
    return segmentation


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(3, 10), st.integers(8, 24), st.integers(8, 24)),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.25, 4.0])] * 3),
    target=st.sampled_from([(1.0, 1.0), (0.8, 1.3), (1.0, 1.0, 1.0), (3.5, 0.9, 0.9), (1.2, 1.0, 0.7)]),
    order=st.permutations([0, 1, 2]),
    margin=st.integers(0, 3),
    channels=st.lists(st.tuples(st.sampled_from([ZSCORE, CT]), st.booleans()), min_size=1, max_size=2),
    names=st.sampled_from([PLAIN, IGNORE, REGIONS, REGIONS_IGNORE]),
    mirror=st.booleans(),
    folds=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_volumes_are_nnunets(shape, spacing, target, order, margin, channels, names, mirror, folds, seed):
    schemes, masks = zip(*channels, strict=True)
    patch = (16, 16) if len(target) == 2 else (8, 16, 8)
    plans = plans_with(target, patch, schemes, masks, order)
    image = random_image(np.random.default_rng(seed), (len(schemes), *shape), margin)
    compare(image, spacing, plans, names, tuple(range(len(patch))) if mirror else None, folds, threads=folds)


@pytest.mark.parametrize("names", [PLAIN, REGIONS])
@pytest.mark.parametrize("schemes", [(ZSCORE,), (RGB,) * 3])
@pytest.mark.parametrize("spacing", [(999, 1, 1), (999, 0.6, 1.4)])
def test_pictures_are_nnunets(names, schemes, spacing):
    image = random_image(np.random.default_rng(1), (len(schemes), 1, 75, 58), colours=True)
    found = compare(image, spacing, plans_with((1.0, 1.0), (32, 32), schemes), names, (0, 1))
    assert len(np.unique(found)) > 1


def test_what_was_cropped_is_background():
    image = random_image(np.random.default_rng(1), (1, 8, 30, 30), margin=3)
    names = ({"background": 0, "a": 1}, None)
    plans = plans_with((1.0, 1.0, 1.0), (8, 16, 16))
    dataset = dataset_with(*names)
    manifest = manifest_of(plans, dataset)
    prepared = preprocess(image, (1, 1, 1), manifest)
    logits = np.zeros((2, *prepared.data.shape[1:]), dtype=np.float16)
    logits[1] = 1
    segmentation = to_segmentation(logits, prepared, manifest)
    inside = np.zeros(image.shape[1:], dtype=bool)
    inside[tuple(slice(*bounds) for bounds in prepared.box)] = True
    assert not inside.all()
    assert np.array_equal(segmentation, inside)
    probabilities = to_probabilities(logits, prepared, manifest)
    assert (probabilities[0][~inside] == 1).all()
    assert (probabilities[1][~inside] == 0).all()


@pytest.mark.parametrize("function", ["resample_torch_fornnunet", "no_resampling_hack"])
def test_other_resampling_functions(function):
    image = random_image(np.random.default_rng(3), (1, 6, 21, 17))
    spacing = (4.5, 1.0, 1.0) if function == "resample_torch_fornnunet" else (2.0, 1.3, 0.9)
    plans = plans_with((2.0, 1.3, 0.9), (8, 16, 16), function=function)
    dataset = dataset_with(*PLAIN)
    manifest = manifest_of(plans, dataset)
    data, properties = nnunet_preprocess(image, spacing, plans, dataset)
    logits = nnunet_logits(data, TinyNetworks(1, 3, 3), plans, dataset)
    expected, probabilities = nnunet_export(logits, properties, plans, dataset, probabilities=True)
    prepared = dataclasses.replace(preprocess(image, spacing, manifest), data=data)
    found = to_probabilities(logits.numpy(), prepared, manifest)
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-5)
    assert (to_segmentation(logits.numpy(), prepared, manifest) != expected).mean() < 1e-3


def test_an_image_of_zeros_has_a_segmentation():
    plans = plans_with((1.0, 1.0), (16, 16), masks=[True])
    with np.errstate(all="ignore"):
        compare(np.zeros((1, 2, 20, 30), dtype=np.float32), (3, 1, 1), plans, PLAIN)


def test_a_wrong_number_of_outputs_is_refused():
    plans = plans_with((1.0, 1.0), (16, 16))
    manifest = manifest_of(plans, dataset_with(*PLAIN))
    prepared = preprocess(np.ones((1, 1, 20, 30)), (999, 1, 1), manifest)
    with pytest.raises(InputError, match="has 2 outputs, and the bundle describes 3"):
        to_segmentation(np.zeros((2, 1, 20, 30), dtype=np.float16), prepared, manifest)


def test_the_comparison_notices_another_order_of_resampling(monkeypatch):
    plans = plans_with((1.0, 1.0, 1.0), (8, 16, 16))
    image = random_image(np.random.default_rng(1), (1, 8, 30, 30))
    compare(image, (1.5, 1.2, 1.2), plans, PLAIN)

    original = Resampling.of

    def careless(settings):
        return dataclasses.replace(original(settings), order=0)

    monkeypatch.setattr("nnsam.inference.automatic.restoration.Resampling.of", careless)
    with pytest.raises(AssertionError):
        compare(image, (1.5, 1.2, 1.2), plans, PLAIN)
