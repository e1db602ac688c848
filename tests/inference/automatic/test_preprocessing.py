import subprocess
import sys

import numpy as np
import pytest
from helpers.nnunet_reference import dataset_with, manifest_of, nnunet_preprocess, plans_with, random_image
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.inference.automatic.preprocessing import model_spacing, preprocess

LABELS = {"background": 0, "a": 1}
ZSCORE = "ZScoreNormalization"
SCHEMES = (ZSCORE, "CTNormalization", "NoNormalization", "RescaleTo01Normalization")


def compare(image, spacing, plans, channels):
    """Preprocesses with both and asserts that everything is equal; returns the result, None if there is none."""
    dataset = dataset_with(LABELS, channels=channels)
    before = image.copy()
    data, properties = nnunet_preprocess(image.copy(order="K"), spacing, plans, dataset)
    if not data.size:  # no voxel is left at the model's voxel size, and nnU-Net fails later
        with pytest.raises(InputError, match="check the image's voxel size"):
            preprocess(image, spacing, manifest_of(plans, dataset))
        return None
    prepared = preprocess(image, spacing, manifest_of(plans, dataset))
    assert np.array_equal(image, before)
    assert prepared.data.dtype == data.dtype == np.float32
    assert np.array_equal(prepared.data, data)
    assert prepared.shape_before_cropping == properties["shape_before_cropping"]
    assert [list(bounds) for bounds in prepared.box] == properties["bbox_used_for_cropping"]
    assert prepared.shape_after_cropping == properties["shape_after_cropping_and_before_resampling"]
    return prepared


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(3, 9), st.integers(6, 20), st.integers(6, 20)),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.25, 4.0])] * 3),
    target=st.sampled_from([(1.0, 1.0), (0.8, 1.3), (1.0, 1.0, 1.0), (3.5, 0.9, 0.9), (1.2, 1.0, 0.7)]),
    order=st.permutations([0, 1, 2]),
    margin=st.integers(0, 3),
    channels=st.lists(st.tuples(st.sampled_from(SCHEMES), st.booleans()), min_size=1, max_size=3),
    dtype=st.sampled_from([np.float32, np.float64, np.int16]),
    fortran=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_volumes_are_nnunets_to_the_last_bit(shape, spacing, target, order, margin, channels, dtype, fortran, seed):
    schemes, masks = zip(*channels, strict=True)
    image = random_image(np.random.default_rng(seed), (len(schemes), *shape), margin).astype(dtype)
    # Readers hand out arrays of various memory layouts, and sums depend on them.
    image = image if not fortran else np.ascontiguousarray(image.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    patch = (8,) * len(target)
    compare(image, spacing, plans_with(target, patch, schemes, masks, order), len(schemes))


@pytest.mark.parametrize("schemes", [(ZSCORE,), ("RGBTo01Normalization",) * 3, (ZSCORE,) * 3])
@pytest.mark.parametrize("spacing", [(999, 1, 1), (999, 0.5, 1.5)])
def test_pictures_are_nnunets_to_the_last_bit(schemes, spacing):
    image = random_image(np.random.default_rng(3), (len(schemes), 1, 61, 47), colours=True)
    # NaturalImage2DIO moves the colours of an interleaved file to the front.
    image = np.ascontiguousarray(image.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    prepared = compare(image, spacing, plans_with((1.0, 1.0), (32, 32), schemes), len(schemes))
    assert (prepared.data.shape[2:] == (61, 47)) == (spacing == (999, 1, 1))


@pytest.mark.parametrize("mask", [False, True])
def test_an_image_of_zeros_is_kept_whole_as_in_nnunet(mask):
    plans = plans_with((1.0, 1.0, 1.0), (8, 8, 8), masks=[mask])
    with np.errstate(all="ignore"):
        prepared = compare(np.zeros((1, 4, 9, 8), dtype=np.float32), (1.0, 1.0, 1.0), plans, 1)
    assert prepared.box == ((0, 4), (0, 9), (0, 8))
    assert not prepared.data.any()


@pytest.mark.parametrize("function", ["resample_torch_fornnunet", "no_resampling_hack"])
def test_other_resampling_functions(function):
    image = random_image(np.random.default_rng(3), (1, 6, 21, 17))
    plans = plans_with((2.0, 1.3, 0.9), (8, 8, 8), function=function)
    dataset = dataset_with(LABELS)
    expected, _ = nnunet_preprocess(image, (4.5, 1.0, 1.0), plans, dataset)
    prepared = preprocess(image, (4.5, 1.0, 1.0), manifest_of(plans, dataset))
    np.testing.assert_allclose(prepared.data, expected, rtol=0, atol=1e-5)


def test_the_distance_of_slices_is_the_images_in_2d():
    assert model_spacing({"spacing": [0.5, 0.6]}, (7.0, 1.0, 1.0)) == (7.0, 0.5, 0.6)
    assert model_spacing({"spacing": [3.0, 0.5, 0.6]}, (7.0, 1.0, 1.0)) == (3.0, 0.5, 0.6)


GOOD = np.ones((2, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize(
    ("image", "spacing", "message"),
    [
        (GOOD[0], (1, 1, 1), r"shape \(3, 8, 8\); expected \(channels, z, y, x\)"),
        (GOOD[:1], (1, 1, 1), "has 1 channels, and the model expects 2"),
        (GOOD[:, :0], (1, 1, 1), r"has no pixels \(its shape is \(2, 0, 8, 8\)\)"),
        (GOOD * np.nan, (1, 1, 1), "not finite numbers"),
        (GOOD * -np.inf, (1, 1, 1), "not finite numbers"),
        (GOOD * np.float64(1e300), (1, 1, 1), "not finite numbers"),
        (GOOD * 1j, (1, 1, 1), "of the type complex64; expected real numbers"),
        (GOOD.astype(str), (1, 1, 1), "expected real numbers"),
        (GOOD, (1, 0, 1), r"voxel size is \(1.0, 0.0, 1.0\); expected three positive"),
        (GOOD, (1, -1, 1), "expected three positive"),
        (GOOD, (1, np.nan, 1), "expected three positive"),
        (GOOD, (1, 1), "expected three positive"),
        (GOOD, (1, 1e-3, 1), "check the image's voxel size"),
    ],
)
def test_unfitting_images_are_refused_in_one_sentence(image, spacing, message):
    plans = plans_with((1.0, 1.0), (8, 8), (ZSCORE, ZSCORE))
    with pytest.raises(InputError, match=message) as caught:
        preprocess(image, spacing, manifest_of(plans, dataset_with(LABELS, channels=2)))
    assert "\n" not in str(caught.value)


def test_boolean_and_integer_images_are_welcome():
    manifest = manifest_of(plans_with((1.0, 1.0), (8, 8), (ZSCORE,)), dataset_with(LABELS))
    image = np.random.default_rng(0).random((1, 1, 8, 8)) > 0.5
    expected = preprocess(image.astype(np.float32), (999, 1, 1), manifest).data
    for dtype in (bool, np.uint8, np.int64):
        assert np.array_equal(preprocess(image.astype(dtype), (999, 1, 1), manifest).data, expected)


def test_the_pipeline_needs_neither_pytorch_nor_nnunet_nor_scipy_to_start():
    modules = ("preprocessing", "sliding_window", "restoration")
    code = "import sys\n" + "".join(f"import nnsam.inference.automatic.{name}\n" for name in modules)
    code += "print({'torch', 'nnunetv2', 'scipy', 'skimage'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
