import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from PIL import Image

from nnsam.errors import InputError
from nnsam.inference.box.image import Normalization, PreparedImage, _halve, luminance, nonzero_slices, resize
from nnsam.prompts.box_model import BoxModelSpec

GREY = BoxModelSpec((32, 48), 1)
COLOUR = BoxModelSpec((32, 48), 3)


def whole(prepared, index=0):
    """All pixels of a plane, normalised, (C, H, W)."""
    plane = prepared.plane(index)
    return plane.patch((0, 0, *plane.shape), plane.shape)


def statistics(image):
    found = Normalization.of(image)
    return found.mean, found.std


def nnunet(image):
    """nnU-Net's own crop and normalisation of (C, Z, H, W)."""
    cropped, _, box = crop_to_nonzero(image.copy())
    scheme = ZScoreNormalization(False, {})
    return np.stack([scheme.run(channel.astype(np.float32)) for channel in cropped]), box


def framed(dtype, channels, seed=0):
    rng = np.random.default_rng(seed)
    image = np.zeros((40, 30, channels), np.float64)
    image[5:33, 3:30] = rng.gamma(2, 30, size=(28, 27, channels))
    image[10:14, 10:14] = 0  # a hole belongs to the box
    return image.clip(0, 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, ">u2", ">f4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_nnunets(dtype, channels):
    image = framed(dtype, channels)
    native = np.moveaxis(image, -1, 0)[:, None].astype(np.float32)
    expected, box = nnunet(native)
    spec = BoxModelSpec((32, 48), channels)
    found = whole(PreparedImage(image if channels == 3 else image[..., 0], spec))
    (top, bottom), (left, right) = box[1:]
    assert (top, bottom, left, right) == (5, 33, 3, 30)
    np.testing.assert_allclose(found[:, top:bottom, left:right], expected[:, 0], atol=1e-4)
    # What nnU-Net cuts off does not exist for the network.
    assert np.count_nonzero(found) == np.count_nonzero(found[:, top:bottom, left:right])


def test_volumes_are_normalised_as_a_whole_or_per_slice():
    volume = np.stack([framed(np.uint8, 1, seed)[..., 0] // (seed + 1) for seed in range(4)])
    expected, box = nnunet(volume[None].astype(np.float32))
    prepared = PreparedImage(volume, BoxModelSpec((32, 48), 1, per_slice_normalization=False))
    inside = (slice(None), *(slice(*limits) for limits in box[1:]))
    for index in range(4):
        np.testing.assert_allclose(whole(prepared, index)[inside], expected[:, index], atol=1e-4)
    per_slice = PreparedImage(volume, GREY)
    np.testing.assert_allclose(whole(per_slice, 2), whole(PreparedImage(volume[2], GREY)), atol=1e-6)
    assert np.abs(whole(per_slice, 2) - whole(prepared, 2)).max() > 0.1


def test_empty_slices_at_the_ends_of_a_volume_are_zero():
    volume = np.zeros((5, 30, 40), np.int16)
    volume[2:4, 5:20, 6:30] = np.random.default_rng(0).integers(-100, 100, size=(2, 15, 24))
    for per_slice in (True, False):
        prepared = PreparedImage(volume, BoxModelSpec((32, 48), 1, per_slice_normalization=per_slice))
        assert [bool(whole(prepared, index).any()) for index in range(5)] == [False, False, True, True, False]


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]))
@settings(deadline=None)
def test_statistics_are_those_of_the_cropped_pixels(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(1, 9, size=rng.integers(2, 4)), int(rng.choice([1, 3])))
    image = (rng.integers(0, 256, size=shape) * (rng.random(shape) < rng.choice([0.05, 0.5]))).astype(dtype)
    filled = np.argwhere(image.any(axis=-1))
    box = (
        tuple(slice(low, high) for low, high in zip(filled.min(0), filled.max(0) + 1, strict=True))
        if len(filled)
        else ()
    )
    mean, std = statistics(image)
    values = image[box].reshape(-1, shape[-1]).astype(np.float64)
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(std, np.maximum(values.std(axis=0), 1e-8), atol=1e-9)
    if len(filled):
        assert nonzero_slices(image) == box


def test_statistics_of_many_chunks():
    image = np.random.default_rng(0).normal(1e4, 3, size=(700, 2000, 1))
    mean, std = statistics(image)
    assert mean == pytest.approx(image.mean(), rel=1e-12)
    assert std == pytest.approx(image.std(), rel=1e-12)


@pytest.mark.parametrize("value", [0, 1, 200])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32, np.float64])
def test_constant_images_become_zero_at_any_scale(dtype, value):
    image = np.full((70, 90), value + (0.1 if np.issubdtype(dtype, np.floating) else 0)).astype(dtype)
    plane = PreparedImage(image, COLOUR).plane(0)
    for region in ((0, 0, 70, 90), (3.3, 4.1, 12.2, 17), (-50, -50, 170, 190)):
        assert np.array_equal(plane.patch(region, (16, 24)), np.zeros((3, 16, 24)))


def test_a_single_pixel_is_an_image():
    patch = PreparedImage(np.array([[7]], np.uint8), GREY).plane(0).patch((-1, -1, 2, 2), (6, 6))
    assert np.array_equal(patch, np.zeros((1, 6, 6)))


def test_grey_is_repeated_and_colour_becomes_luminance():
    image = framed(np.uint8, 3)
    grey = whole(PreparedImage(image[..., 0], COLOUR))
    assert np.array_equal(grey[0], grey[1])
    assert np.array_equal(grey[0], grey[2])
    assert grey.shape == (3, 40, 30)
    exact = image.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(luminance(image)[..., 0] - exact).max() <= 0.5
    np.testing.assert_allclose(luminance(image.astype(np.float32))[..., 0], exact, rtol=1e-5)
    assert whole(PreparedImage(image, GREY)).shape == (1, 40, 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scale", [3.1, 1.0, 0.6, 0.45, 0.13])
def test_a_ramp_stays_where_it_is_at_any_scale(dtype, scale):
    """Pixel centres of the patch see the ramp's value at their own place: no shift, whatever the pyramid's level."""
    y, x = np.mgrid[:420, :500] + 0.5
    ramp = (0.3 * y + 0.2 * x).astype(dtype)
    prepared = PreparedImage(ramp, GREY)
    region = np.array([201.3, 220.7, 201.3 + 20 / scale, 220.7 + 30 / scale])
    patch = prepared.plane(0).patch(region, (20, 30))[0]
    mean, std = statistics(ramp[..., None])
    rows = region[0] + (np.arange(20) + 0.5) / scale
    columns = region[1] + (np.arange(30) + 0.5) / scale
    expected = 0.3 * rows[:, None] + 0.2 * columns
    found = patch * std + mean + (0 if dtype == np.float32 else 0.5)  # whole numbers were cut off
    limit = 0.15 if dtype == np.float32 else 0.7
    inside = (rows < 418)[:, None] & (columns < 498)
    assert np.abs(found - expected)[inside].max() < limit
    assert abs((found - expected)[inside].mean()) < 0.15


def test_what_lies_beyond_the_image_is_zero_and_the_border_is_where_it_is():
    image = np.random.default_rng(0).normal(50, 5, size=(64, 64))
    plane = PreparedImage(image, GREY).plane(0)
    patch = plane.patch((-32, -64, 96, 128), (64, 96))[0]  # halved; the image fills rows 16..48, columns 32..64
    inside = np.zeros((64, 96), bool)
    inside[16:48, 32:64] = True
    assert (patch[~inside] == 0).all()
    assert (patch[inside] != 0).all()
    assert (plane.patch((100, 100, 120, 120), (8, 8)) == 0).all()


def test_a_patch_of_whole_pixels_is_cut_out_exactly():
    image = np.random.default_rng(0).integers(0, 256, size=(50, 60, 3), dtype=np.uint8)
    mean, std = statistics(image)
    patch = PreparedImage(image, COLOUR).plane(0).patch((-4, 20, 28, 68), (32, 48))
    expected = np.zeros((32, 48, 3))
    expected[4:, :40] = (image[:28, 20:] - mean) / std
    np.testing.assert_allclose(patch, np.moveaxis(expected, -1, 0), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(128, 192), (129, 191)])
def test_flipped_images_give_flipped_patches(dtype, shape):
    image = np.random.default_rng(0).integers(0, 256, size=shape).astype(dtype)
    y0, x0, y1, x1 = 10.25, 20.5, 100.25, 150.5
    patch = PreparedImage(image, GREY).plane(0).patch((y0, x0, y1, x1), (60, 80))
    flipped = PreparedImage(image[:, ::-1], GREY).plane(0)
    mirrored = flipped.patch((y0, shape[1] - x1, y1, shape[1] - x0), (60, 80))
    np.testing.assert_allclose(mirrored[..., ::-1], patch, atol=1e-4)


def test_the_image_is_not_changed_and_may_be_read_only():
    for dtype in (np.uint8, np.float32, np.float64):
        image = framed(dtype, 3)
        before = image.copy()
        image.flags.writeable = False
        PreparedImage(image, COLOUR).plane(0).patch((0, 0, 40, 30), (10, 10))
        PreparedImage(image, GREY).plane(0).patch((0, 0, 40, 30), (10, 10))
        assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((5,), {}, "shape"),
        ((0, 5), {}, "not empty"),
        ((9, 9, 4), {}, "alpha"),
        ((9, 9, 2), {}, "alpha"),
        ((9, 9, 9, 4), {}, "alpha"),
        ((2, 9, 9, 9, 3), {}, "shape"),
        ((9, 9), {"dimensions": 3}, "shape"),
        ((9, 9), {"dimensions": 4}, "2 or 3"),
        ((9, 9), {"spacing": (1, 1, 1)}, "2 positive"),
        ((9, 9, 9), {"spacing": (1, 0, 1)}, "positive"),
        ((9, 9), {"spacing": (1, float("nan"))}, "positive"),
        ((9, 9), {"spacing": "ab"}, "numbers"),
        ((9, 9), {"spacing": 3}, "numbers"),
    ],
)
def test_other_shapes_and_spacings_are_refused(shape, options, words):
    with pytest.raises(InputError, match=words):
        PreparedImage(np.zeros(shape, np.uint8), GREY, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(value):
    image = np.ones((5, 6))
    image[2, 3] = value
    with pytest.raises(InputError, match=r"nan or infinite|32-bit"):
        PreparedImage(image, GREY)


@pytest.mark.parametrize("dtype", [complex, object, "U3", "datetime64[s]"])
def test_values_that_are_not_real_numbers_are_refused(dtype):
    with pytest.raises(InputError, match="real numbers"):
        PreparedImage(np.zeros((4, 5)).astype(dtype), GREY)


def test_shapes_that_are_ambiguous():
    assert PreparedImage(np.ones((7, 8, 3)), GREY).shape == (7, 8)
    assert PreparedImage(np.ones((7, 8, 3)), GREY, dimensions=3).shape == (7, 8, 3)
    assert PreparedImage(np.ones((7, 8, 9, 3)), GREY).shape == (7, 8, 9)
    assert PreparedImage(np.ones((1, 8, 9)), GREY).shape == (1, 8, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_pyramid_averages_blocks_whatever_the_strips(dtype):
    image = np.random.default_rng(0).integers(0, 256, size=(1500, 2002, 3)).astype(dtype)
    found = _halve(image).astype(float)
    expected = image.reshape(750, 2, 1001, 2, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).max() <= (0.5 if dtype == np.uint8 else 1e-3)
    odd = _halve(image[:5, :3])
    assert odd.shape == (3, 2, 3)
    assert np.array_equal(odd[2, 1], image[4, 2])


def test_large_results_are_resized_as_small_ones_are():
    values = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    for box in (None, (3.25, 4.5, 50.75, 38.125)):
        found = resize(values, (1600, 1700), box)
        picture = Image.fromarray(values).resize((1700, 1600), Image.Resampling.BILINEAR, box=box)
        np.testing.assert_allclose(found, np.asarray(picture), atol=1e-6)
