import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io

from nnsam.errors import InputError
from nnsam.io.finding import find_labels
from nnsam.io.image import make_labels
from nnsam.io.reading import read_labels

LABELS = np.arange(30, dtype=np.uint8).reshape(5, 6)


def write_volume(path, array, spacing, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def write_picture(path, array):
    io.imsave(path, array, check_contrast=False)
    return path


def test_cases_are_found_among_other_files(tmp_path):
    for name in ("b.png", "a.nii.gz", "a.b.tif", "dataset.json", "plans.pkl", ".hidden.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    assert {case: path.name for case, path in find_labels(tmp_path).items()} == {
        "a": "a.nii.gz",
        "a.b": "a.b.tif",
        "b": "b.png",
    }
    assert list(find_labels(tmp_path / "b.png")) == ["b"]


def test_missing_empty_and_ambiguous_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_labels(tmp_path / "absent")
    with pytest.raises(InputError, match="no label maps"):
        find_labels(tmp_path)
    for name in ("a.png", "a.nii.gz"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"a\.nii\.gz and a\.png"):
        find_labels(tmp_path)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_pictures_have_no_spacing(tmp_path, ending):
    read = read_labels(write_picture(tmp_path / f"a{ending}", LABELS))
    np.testing.assert_array_equal(read.pixels, LABELS)
    assert read.spacing is None
    assert read.geometry is None


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_volumes_have_their_spacing_in_array_order(tmp_path, ending):
    volume = np.stack([LABELS, LABELS + 1])
    read = read_labels(write_volume(tmp_path / f"a{ending}", volume, (0.5, 0.75, 3.0)))
    np.testing.assert_array_equal(read.pixels, volume)
    assert read.spacing == pytest.approx((3.0, 0.75, 0.5))


@pytest.mark.parametrize(("axis", "spacing"), [(0, (0.75, 0.5)), (1, (3.0, 0.5)), (2, (3.0, 0.75))])
def test_single_slices_become_2d_along_any_axis(tmp_path, axis, spacing):
    read = read_labels(write_volume(tmp_path / "a.nii.gz", np.expand_dims(LABELS, axis), (0.5, 0.75, 3.0)))
    np.testing.assert_array_equal(read.pixels, LABELS)
    assert read.spacing == pytest.approx(spacing)


def test_2d_nifti_tiff_stacks_masks_and_whole_floats(tmp_path):
    assert read_labels(write_volume(tmp_path / "a.nii.gz", LABELS, (0.5, 2.0))).spacing == pytest.approx((2.0, 0.5))
    stack = np.stack([LABELS] * 3)  # three slices are no colours
    assert read_labels(write_picture(tmp_path / "a.tif", stack)).pixels.shape == (3, 5, 6)
    floats = read_labels(write_volume(tmp_path / "b.nii.gz", LABELS.astype(np.float32), (1.0, 1.0)))
    assert floats.pixels.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.png", np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "colour picture"),
        ("a.tif", np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "colour picture"),
    ],
)
def test_colour_pictures_are_refused(tmp_path, name, array, words):
    with pytest.raises(InputError, match=words):
        read_labels(write_picture(tmp_path / name, array))


def test_values_that_are_no_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="no whole numbers"):
        read_labels(write_volume(tmp_path / "a.nii.gz", np.full((3, 4), 0.5), (1.0, 1.0)))
    with pytest.raises(InputError, match="negative"):
        read_labels(write_volume(tmp_path / "a.nii.gz", np.full((3, 4), -1, np.int16), (1.0, 1.0)))
    with pytest.raises(InputError, match="3 values per voxel"):
        read_labels(write_volume(tmp_path / "a.nrrd", np.zeros((3, 4, 3), np.uint8), (1.0, 1.0), vector=True))
    with pytest.raises(InputError, match="4 dimensions"):
        read_labels(write_volume(tmp_path / "b.nii.gz", np.zeros((2, 3, 4, 5), np.uint8), (1.0,) * 4))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"this is no image"])
def test_broken_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.") + " (cannot be read|is not a NIfTI file)"):
        read_labels(tmp_path / name)


def test_truncated_picture_is_named(tmp_path):
    path = write_picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(path)


def test_a_truncated_volume_is_named_because_itk_reads_it_without_a_word(tmp_path):
    path = tmp_path / "case.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((6, 20, 20), np.uint8)), str(path))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="cut off"):
        read_labels(path)


def png_of_depth(path, values, depth, colour_type=0, palette=b""):
    """A PNG of 1, 2 or 4 bits, which Pillow does not write; https://www.w3.org/TR/png-3/."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour_type, 0, 0, 0)
    colours = chunk(b"PLTE", palette) if palette else b""
    content = chunk(b"IHDR", header) + colours + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("colour_type", [0, 3])
def test_label_pngs_of_few_bits_hold_their_values(tmp_path, depth, colour_type):
    values = np.random.default_rng(depth).integers(0, 2**depth, (7, 13), dtype=np.uint8)
    palette = np.random.default_rng(0).integers(0, 255, (2**depth, 3), dtype=np.uint8).tobytes()
    path = png_of_depth(tmp_path / "a.png", values, depth, colour_type, palette if colour_type else b"")
    np.testing.assert_array_equal(read_labels(path).pixels, values)


@pytest.mark.parametrize(
    ("greys", "are_indices"),
    [
        ([0, 255], True),
        ([0, 128, 255], True),
        ([0, 1, 2], False),  # too dark to be seen: grey values, which are the indices here
        ([2, 0, 1], False),
        ([255, 0], False),
        ([0, 255, 1], False),
        ([0, 5, 9], False),
    ],
)
def test_palettes_of_greys_are_what_an_optimiser_made_unless_they_are_for_the_eye(tmp_path, greys, are_indices):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % len(greys)
    palette = np.repeat(np.array(greys + [0] * (4 - len(greys)), np.uint8), 3).tobytes()
    path = png_of_depth(tmp_path / "a.png", indices, 2, 3, palette)
    np.testing.assert_array_equal(read_labels(path).pixels, indices if are_indices else np.array(greys)[indices])


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_three_equal_colours_are_labels(tmp_path, ending):
    read = read_labels(write_picture(tmp_path / f"a{ending}", np.dstack([LABELS] * 3)))
    np.testing.assert_array_equal(read.pixels, LABELS)


def test_colours_with_an_opaque_alpha_are_labels_and_with_another_are_not(tmp_path):
    opaque, other = np.full(LABELS.shape, 255, np.uint8), LABELS * 3
    for name, planes in (("rgba", [LABELS] * 3), ("la", [LABELS])):
        read = read_labels(write_picture(tmp_path / f"{name}.png", np.dstack([*planes, opaque])))
        np.testing.assert_array_equal(read.pixels, LABELS)
        with pytest.raises(InputError, match="colour picture"):
            read_labels(write_picture(tmp_path / f"{name}.png", np.dstack([*planes, other])))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "palette"])
def test_tiff_labels_hold_what_is_stored(tmp_path, depth, photometric):
    if depth < 8 and photometric == "palette":
        pytest.skip("tifffile writes palettes of 8 bits only")
    values = np.random.default_rng(depth).integers(0, 2**depth, (7, 16), dtype=np.uint8)
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 2**depth), dtype=np.uint16)
    options = {"bitspersample": depth} if depth < 8 else {}
    options |= {"colormap": colours} if photometric == "palette" else {}
    if depth == 1:
        values, options = values.astype(bool), {}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, **options)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").pixels, values)


@pytest.mark.parametrize("shape", [(0, 7), (3, 0), (0, 7, 8)])
def test_label_maps_without_pixels_are_refused(shape):
    with pytest.raises(InputError, match=r"a\.tif holds no pixels"):
        make_labels("a.tif", np.zeros(shape, np.uint8))
