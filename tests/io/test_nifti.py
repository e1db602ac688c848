"""NIfTI by nibabel: places as ITK takes them, forms and units kept, what is wrong is told."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError, NnsamWarning
from nnsam.io import read_image, read_labels, write_labels
from nnsam.io.reading import read_header

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
PLACE_FIELDS = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
)
PLACE_FIELDS += ("srow_x", "srow_y", "srow_z", "xyzt_units")


def rotation(axis, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    one, other = [(1, 2), (0, 2), (0, 1)][axis]
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix


def affine(turn, spacing=(2, 3, 4), origin=(1, 2, 3)):
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


FORMS = {
    "same": affine(rotation(2, 10)),
    "turned": affine(rotation(0, 20) @ np.diag([-1, 1, 1]), origin=(5, 6, 7)),
    "sheared": affine(rotation(0, 20) @ np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]), origin=(5, 6, 7)),
}


def write(path, voxels=VOXELS, qform=FORMS["same"], sform=FORMS["same"], codes=(1, 1), kind=nibabel.Nifti1Image):
    image = kind(voxels, None)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    image.header["pixdim"][1:4] = (2, 3, 4)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codes", list(itertools.product((0, 1, 2, 4), repeat=2)))
@pytest.mark.filterwarnings("ignore::nnsam.errors.NnsamWarning")
def test_the_place_is_that_of_itk(tmp_path, form, codes):
    path = write(tmp_path / "a.nii.gz", sform=FORMS[form], codes=codes)
    image = read_image(path)
    try:
        theirs = sitk.ReadImage(str(path))
    except RuntimeError:
        assert form == "sheared"
        assert codes[0] == 0
        lps = np.diag([-1, -1, 1, 1]) @ FORMS[form]
        np.testing.assert_allclose(image.affine[:3, 3], lps[:3, 3], atol=1e-4)
        cosines = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
        np.testing.assert_allclose(np.reshape(image.geometry.direction, (3, 3)), cosines, atol=1e-5)
        return
    np.testing.assert_array_equal(image.pixels, sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(image.geometry.spacing, theirs.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(image.geometry.origin, theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(image.geometry.direction, theirs.GetDirection(), atol=1e-4)
    assert read_header(path) == (tuple(VOXELS.shape), image.geometry)


@settings(max_examples=40, deadline=None)
@given(
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    turns=st.lists(st.tuples(st.integers(0, 2), st.floats(-180, 180)), min_size=2, max_size=2),
    unit=st.sampled_from(["mm", "micron", "meter", "unknown"]),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    order=st.sampled_from("<>"),
)
@pytest.mark.filterwarnings("ignore::nnsam.errors.NnsamWarning")
def test_label_maps_keep_forms_codes_and_units(tmp_path_factory, codes, turns, unit, kind, order):
    folder = tmp_path_factory.mktemp("forms")
    header = kind.header_class(endianness=order)
    header.set_xyzt_units(unit)
    image = kind(VOXELS, None, header)
    image.set_qform(affine(rotation(*turns[0])), codes[0])
    image.set_sform(affine(rotation(*turns[1]), origin=(-7, 8, 9)), codes[1])
    image.header["pixdim"][1:4] = (2, 3, 4)
    image.header["descrip"] = b"a scan"
    nibabel.save(image, folder / "a.nii")
    read = read_image(folder / "a.nii")
    write_labels(folder / "mask.nii.gz", read.with_pixels((read.pixels % 3).astype(np.uint8)))
    mask = nibabel.load(folder / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), VOXELS % 3)
    assert mask.get_data_dtype() == np.uint8
    for field in PLACE_FIELDS:
        np.testing.assert_array_equal(mask.header[field], image.header[field])
    np.testing.assert_array_equal(mask.header["pixdim"][:4], image.header["pixdim"][:4])
    scale = {"mm": 1, "micron": 1e-3, "meter": 1e3, "unknown": 1}[unit]
    assert read.spacing == pytest.approx((4 * scale, 3 * scale, 2 * scale))
    assert not read_labels(folder / "mask.nii.gz").geometry.differences(read.geometry)


def test_differing_forms_and_sizes_are_told(tmp_path):
    with pytest.warns(NnsamWarning, match="differently by sform and qform"):
        read_image(write(tmp_path / "a.nii", sform=FORMS["turned"]))
    larger = affine(rotation(2, 10), spacing=(2, 3, 5))
    with pytest.warns(NnsamWarning, match="2 x 3 x 5 by its affine and of 2 x 3 x 4 by pixdim"):
        assert read_image(write(tmp_path / "b.nii", sform=larger, codes=(0, 1))).spacing == (4, 3, 2)
    with pytest.warns(NnsamWarning, match="not perpendicular"):
        read_image(write(tmp_path / "c.nii", sform=FORMS["sheared"], codes=(0, 2)))


def test_ordinary_files_are_read_without_a_word(tmp_path, recwarn):
    read_image(write(tmp_path / "a.nii.gz"))
    assert not recwarn.list


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_compression_is_seen_in_the_content(tmp_path, ending, compressed):
    content = write(tmp_path / "plain.nii").read_bytes()
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(content) if compressed else content)
    np.testing.assert_array_equal(read_image(path).pixels, VOXELS.T)
    np.testing.assert_array_equal(read_labels(path).pixels, VOXELS.T)


def test_a_header_that_announces_more_than_deflate_can_hold_is_refused_before_reading(tmp_path):
    content = bytearray(write(tmp_path / "plain.nii").read_bytes())
    content[42:48] = np.array([1200] * 3, "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=r"announces .* more than it can hold"):
        read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_without_a_number_are_refused(tmp_path, bad):
    voxels = VOXELS.astype(np.float32)
    voxels[1, 2, 3] = bad
    with pytest.raises(InputError, match="nan or infinite"):
        read_image(write(tmp_path / "a.nii.gz", voxels))


def test_voxels_that_scaling_makes_infinite_are_refused(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = np.float32(3e38).tobytes()
    content[116:120] = np.float32(3e38).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    pixels = read_image(tmp_path / "a.nii").pixels  # in double precision they are numbers
    assert np.isfinite(pixels).all()
    assert pixels.max() > 1e40


def test_scaled_integers_are_scaled(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.5, -3], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").pixels, VOXELS.T * 0.5 - 3)


@pytest.mark.parametrize(("size", "word"), [(0, "0"), (np.nan, "nan"), (np.inf, "inf")])
def test_an_unusable_pixel_size_is_refused(tmp_path, size, word):
    path = write(tmp_path / "a.nii", codes=(0, 1))
    content = bytearray(path.read_bytes())
    content[84:88] = np.float32(size).tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"pixel size of 2 x {word} x 4; .* mend pixdim"):
        read_image(path)


def test_axes_in_one_plane_are_refused(tmp_path):
    flat = affine(np.array([[1.0, 1, 0], [0, 0, 0], [0, 0, 1]]))
    with pytest.raises(InputError, match="axes that lie in one plane"):
        read_image(write(tmp_path / "a.nii", sform=flat, codes=(0, 1)))


def test_colours_time_points_and_vectors(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    packed = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(packed, np.eye(4)), tmp_path / "rgb.nii.gz")
    nibabel.save(nibabel.Nifti1Image(colours[..., None, :], np.eye(4)), tmp_path / "vector.nii.gz")
    nibabel.save(nibabel.Nifti1Image(colours[..., :1], np.eye(4)), tmp_path / "one.nii.gz")
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "three.nii.gz")
    for name in ("rgb", "vector"):
        image = read_image(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.pixels, colours.transpose(2, 1, 0, 3))
        assert (image.dimensions, image.channels) == (3, 3)
        with pytest.raises(InputError, match="3 values per voxel"):
            read_labels(tmp_path / f"{name}.nii.gz")
        write_labels(tmp_path / "mask.nii.gz", image.with_pixels(image.pixels[..., 0]))
        np.testing.assert_array_equal(nibabel.load(tmp_path / "mask.nii.gz").dataobj, colours[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "one.nii.gz").pixels, colours[..., 0].T)
    np.testing.assert_array_equal(read_labels(tmp_path / "one.nii.gz").pixels, colours[..., 0].T)
    with pytest.raises(InputError, match=r"has 4 dimensions, size \(4, 5, 6, 3\); expected 2 or 3"):
        read_image(tmp_path / "three.nii.gz")


@pytest.mark.parametrize("axis", range(3))
def test_one_slice_along_any_axis_is_a_picture(tmp_path, axis):
    voxels = np.take(VOXELS, [2], axis)
    path = write(tmp_path / "a.nii.gz", voxels)
    image = read_image(path)
    assert image.dimensions == 2
    np.testing.assert_array_equal(image.pixels, np.take(VOXELS, 2, axis).T)
    assert image.spacing == tuple(size for index, size in enumerate((2, 3, 4)) if index != axis)[::-1]
    write_labels(tmp_path / "mask.nii.gz", image.with_pixels((image.pixels % 5).astype(np.uint8)))
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.dataobj, voxels % 5)
    np.testing.assert_allclose(mask.affine, nibabel.load(path).affine)


def test_two_dimensions_stay_two(tmp_path):
    image = nibabel.Nifti1Image(VOXELS[0], None)
    image.header["pixdim"][1:3] = (0.5, 0.25)
    image.set_sform(affine(np.eye(3), spacing=(0.5, 0.25, 1)), 1)
    image.header["pixdim"][1:3] = (0.5, 0.25)
    nibabel.save(image, tmp_path / "a.nii.gz")
    read, theirs = read_image(tmp_path / "a.nii.gz"), sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert read.spacing == (0.25, 0.5)
    assert read.geometry.dimensions == theirs.GetDimension() == 2
    np.testing.assert_allclose(read.geometry.origin, theirs.GetOrigin())
    np.testing.assert_allclose(read.geometry.direction, theirs.GetDirection())
    write_labels(tmp_path / "mask.nii.gz", read.with_pixels(read.pixels.astype(np.uint8)))
    np.testing.assert_array_equal(nibabel.load(tmp_path / "mask.nii.gz").dataobj, VOXELS[0])
