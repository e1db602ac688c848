"""The one image: what is unknown is None, what is known survives writing and reading, and places can be compared."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import tifffile

import nnsam.io
from nnsam.errors import InputError
from nnsam.io import Geometry, Image, read_image, read_labels, write_image, write_labels
from nnsam.io.image import Tolerance, Tolerances, agree, make_labels, without_single_slice
from nnsam.io.reading import read_header

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
VOLUME = (np.arange(4 * 6 * 8) - 50).astype(np.int16).reshape(4, 6, 8)
TURNED = Geometry((0.5, 0.75, 4.0), (1.0, -2.0, 3.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
FLAT = Geometry((0.5, 0.75), (1.0, -2.0), (1.0, 0.0, 0.0, 1.0))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    "image",
    [
        Image(VOLUME, 3, (4.0, 0.75, 0.5), TURNED),
        Image(GREY, 2, (0.75, 0.5), FLAT),
        Image(VOLUME[0].astype(np.float32), 2, (0.75, 0.5), TURNED, file_shape=(1, 6, 8)),
        Image(GREY, 2, (0.75, 0.5)),
        Image(VOLUME, 3),
    ],
    ids=["volume", "picture", "single slice", "spacing only", "nothing known"],
)
def test_volumes_come_back_as_they_were_written(tmp_path, image, ending):
    path = tmp_path / f"a{ending}"
    write_image(path, image)
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, image.pixels)
    assert (found.pixels.dtype, found.dimensions) == (image.pixels.dtype, image.dimensions)
    assert (found.file_shape, found.kind, found.path) == (image.file_shape, "volume", path)
    if image.spacing is not None:
        assert found.spacing == pytest.approx(image.spacing)
    if image.geometry is not None:
        assert found.geometry.differences(image.geometry, Tolerances(*[Tolerance(1e-5, 1e-5)] * 3)) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_label_maps_keep_the_place_of_their_image(tmp_path, ending):
    write_image(tmp_path / f"a{ending}", Image(VOLUME, 3, geometry=TURNED))
    image = read_image(tmp_path / f"a{ending}")
    write_labels(tmp_path / f"b{ending}", image.with_pixels((VOLUME > 7).astype(np.uint8)))
    labels = read_labels(tmp_path / f"b{ending}")
    np.testing.assert_array_equal(labels.pixels, VOLUME > 7)
    assert (labels.spacing, labels.kind) == (image.spacing, "volume")
    assert labels.geometry == image.geometry
    np.testing.assert_array_equal(labels.affine, image.affine)


@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_pictures_come_back_and_have_no_place(tmp_path, pixels):
    write_image(tmp_path / "a.png", Image(pixels, 2))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.spacing, image.geometry, image.affine, image.boxes) == (None, None, None, None)
    assert (image.kind, image.shape, image.channels) == ("picture", (6, 8), 1 if pixels is GREY else 3)


def test_volumes_in_colour_come_back(tmp_path):
    pixels = np.stack([COLOUR, COLOUR + 1])
    write_image(tmp_path / "a.nrrd", Image(pixels, 3, (3.0, 2.0, 1.0)))
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.dimensions, image.channels, image.spacing) == (3, 3, (3.0, 2.0, 1.0))


def test_kinds_without_a_header_know_no_spacing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    np.savez(tmp_path / "a.npz", imgs=VOLUME)
    for name, kind in (("a.tif", "tiff"), ("a.npz", "npz")):
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.pixels, VOLUME)
        assert (image.kind, image.dimensions, image.spacing, image.geometry) == (kind, 3, None, None)


@pytest.mark.parametrize(("ending", "kind"), [(".tif", "tiff"), (".npz", "npz"), (".png", "picture")])
def test_label_maps_without_a_header_come_back(tmp_path, ending, kind):
    pixels = (VOLUME % 3).astype(np.uint16) if kind != "picture" else GREY
    write_labels(tmp_path / f"a{ending}", Image(pixels, pixels.ndim))
    labels = read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(labels.pixels, pixels)
    assert (labels.pixels.dtype, labels.kind, labels.spacing) == (pixels.dtype, kind, None)


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_grey_label_pictures_are_read_as_scikit_image_reads_them(tmp_path, mode):
    from skimage import io

    picture = PIL.Image.fromarray((GREY > 99).astype(np.uint8) * 255).convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        picture = PIL.Image.fromarray(GREY.astype(np.uint16) * 9)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").pixels, io.imread(tmp_path / "a.png"))


def test_other_endings_are_told(tmp_path):
    image = Image(GREY, 2)
    for function, name in ((write_image, "a.jpg"), (write_labels, "a.bmp")):
        with pytest.raises(InputError, match=r"has an ending that .* not written with"):
            function(tmp_path / name, image)
    for function, name in ((read_image, "a.gipl"), (read_labels, "a.jpg")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(InputError, match=r"ending; expected \.nii\.gz"):
            function(tmp_path / name)


@pytest.mark.parametrize("function", [read_image, read_labels])
def test_missing_files_are_told(tmp_path, function):
    with pytest.raises(InputError, match=r"a\.png does not exist; expected"):
        function(tmp_path / "a.png")


def test_single_slices_keep_the_geometry_of_their_file():
    labels = make_labels("a.nii.gz", np.ones((1, 6, 8), bool), geometry=TURNED)
    flat = without_single_slice(labels)
    assert (flat.shape, flat.dimensions, flat.spacing) == ((6, 8), 2, (0.75, 0.5))
    assert (flat.file_shape, flat.geometry, flat.pixels.dtype) == ((1, 6, 8), TURNED, np.uint8)
    volume = make_labels("a.nii.gz", np.ones((2, 6, 8), np.uint8))
    assert without_single_slice(volume) is volume


def test_the_affine_is_what_itk_computes():
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing(TURNED.spacing)
    image.SetOrigin(TURNED.origin)
    image.SetDirection(TURNED.direction)
    for index in ((0, 0, 0), (7, 5, 3), (2, 0, 1)):
        expected = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((TURNED.affine @ [*index, 1])[:3], expected)
    corners = TURNED.corners((8, 6, 4))
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners[-1], image.TransformIndexToPhysicalPoint((7, 5, 3)))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"spacing": (0.5, 0.75, 4.1)}, ["spacing"]),
        ({"spacing": (0.5, 0.75, 4.01)}, []),
        ({"origin": (1.0, -2.0, 3.02)}, ["origin"]),
        ({"origin": (1.0, -2.0, float("nan"))}, ["origin"]),
        ({"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, ["direction"]),
        (vars(FLAT), ["spacing", "origin", "direction"]),
    ],
)
def test_differences_of_place_are_named(change, names):
    assert Geometry(**{**vars(TURNED), **change}).differences(TURNED) == names


def test_tolerances_are_the_callers():
    moved = Geometry(TURNED.spacing, (1.4, -2.0, 3.0), TURNED.direction)
    assert moved.differences(TURNED, Tolerances(origin=Tolerance(0.0, 0.5))) == []
    assert moved.differences(TURNED, Tolerances(origin=Tolerance(0.0, 0.3))) == ["origin"]
    assert agree([1.001], [1.0], Tolerance(1e-2, 0.0))
    assert not agree([1.0, 1.0], [1.0], Tolerance(1.0, 1.0))


def test_headers_are_read_without_pixels(tmp_path):
    write_image(tmp_path / "a.nii.gz", Image(VOLUME, 3, geometry=TURNED))
    size, geometry = read_header(tmp_path / "a.nii.gz")
    assert size == (8, 6, 4)
    assert geometry == read_image(tmp_path / "a.nii.gz").geometry
    PIL.Image.fromarray(COLOUR).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, photometric="rgb")
    assert read_header(tmp_path / "a.png") == ((8, 6), None)
    assert read_header(tmp_path / "a.tif") == ((3, 8, 6), None)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png cannot be read .*; restore it"):
        read_header(tmp_path / "b.png")


def test_public_names_are_there_and_light():
    assert set(nnsam.io.__all__) >= {"Image", "read_image", "read_labels", "write_labels", "find_images"}
    for name in nnsam.io.__all__:
        assert getattr(nnsam.io, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nnsam.io.nothing
    heavy = "{'SimpleITK', 'PIL', 'tifffile', 'skimage', 'scipy', 'nibabel', 'torch', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, nnsam.io; [getattr(nnsam.io, name) for name in nnsam.io.__all__]; print({heavy})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
