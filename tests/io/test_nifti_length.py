import gzip
import struct

import nibabel
import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.io import read_image, read_labels
from nnsam.io.limits import allowing_voxels
from nnsam.io.nifti import check_nifti_length
from nnsam.io.nnunet_readers import reader
from nnsam.io.reading import read_header


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<f8"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 3, 2)])
def test_the_last_byte_counts_in_every_variant(tmp_path, kind, dtype, shape):
    data = np.zeros(shape, dtype)
    header = kind.header_class(endianness=">" if dtype.startswith(">") else "<")
    kind(data, np.eye(4), header, dtype=data.dtype).to_filename(tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    check_nifti_length(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole))
    check_nifti_length(tmp_path / "b.nii.gz")
    (tmp_path / "a.nii").write_bytes(whole[:-1])
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[:-1]))
    for name in ("a.nii", "b.nii.gz"):
        with pytest.raises(InputError, match=f"holds {len(whole) - 1} bytes, its header announces {len(whole)}"):
            check_nifti_length(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 600])
def test_files_without_a_header_are_named(tmp_path, content):
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match="not a NIfTI file"):
        check_nifti_length(tmp_path / "a.nii")


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_the_checksum_of_gzip_counts_too(tmp_path, missing):
    nibabel.Nifti1Image(np.arange(105, dtype=np.uint8).reshape(5, 7, 3), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    check_nifti_length(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:-missing])
    with pytest.raises(EOFError):
        check_nifti_length(tmp_path / "a.nii.gz")


FIELDS = {"dim": (40, "<8h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "vox_offset": (108, "<f")}
FIELDS |= {"scl_slope": (112, "<2f"), "magic": (344, "4s"), "srow_x": (280, "<4f"), "pixdim": (80, "<3f")}
FIELDS |= {"sform_code": (254, "<h")}


def write_changed(path, shape=(5, 7, 3), **fields):
    """A NIfTI file of 16 bits per voxel, some fields of whose header are overwritten afterwards."""
    nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.eye(4)).to_filename(path)
    content = bytearray(path.read_bytes())
    for name, values in fields.items():
        place, form = FIELDS[name]
        struct.pack_into(form, content, place, *(values if isinstance(values, tuple) else (values,)))
    path.write_bytes(content)
    return path


CONTRADICTIONS = [
    {"bitpix": 0},
    {"bitpix": 8},
    {"bitpix": -16},
    {"datatype": 0},
    {"datatype": 9999},
    {"datatype": 2},
    {"datatype": 8, "bitpix": 32},
    {"datatype": 2, "bitpix": 8},
    {"dim": (0, 5, 7, 3, 1, 1, 1, 1)},
    {"dim": (9, 5, 7, 3, 1, 1, 1, 1)},
    {"dim": (3, 5, 7, 0, 1, 1, 1, 1)},
    {"dim": (3, 5, -7, 3, 1, 1, 1, 1)},
    {"dim": (3, 5, 7, 2, 1, 1, 1, 1)},
    {"dim": (3, 5, 7, 4, 1, 1, 1, 1)},
    {"dim": (2, 5, 7, 3, 1, 1, 1, 1)},
    {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)},
    {"vox_offset": 0.0},
    {"vox_offset": float("nan")},
    {"vox_offset": 340.0},
    {"vox_offset": 1e30},
    {"magic": b"ni1\0"},
    {"scl_slope": (float("nan"), 0.0)},
    {"scl_slope": (1.0, float("inf"))},
]


@pytest.mark.parametrize("fields", CONTRADICTIONS, ids=str)
def test_a_header_that_contradicts_itself_or_the_length_is_refused_by_every_reader(tmp_path, fields):
    path = write_changed(tmp_path / "a.nii", **fields)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, tmp_path / "a.nii.gz"):
        for read in (check_nifti_length, read_image, read_labels, read_header):
            with pytest.raises(InputError, match=r"a\.nii"):
                read(file)
        for name in ("SimpleITKIO", "NibabelIO", "SimpleITKIOWithReorient", "NibabelIOWithReorient"):
            with pytest.raises(InputError, match=r"a\.nii"):
                reader(name).read_images([file])


@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": (float("nan"), 0.0, 0.0, 0.0)},
        {"srow_x": (float("inf"), 0.0, 0.0, 0.0)},
        {"srow_x": (0.0, 0.0, 0.0, 0.0)},
        {"srow_x": (1.0, 0.0, 0.0, float("nan"))},
        {"pixdim": (float("nan"), 1.0, 1.0), "sform_code": 0},
        {"pixdim": (1.0, 0.0, 1.0), "sform_code": 0},
        {"pixdim": (1.0, float("inf"), 1.0)},
        {"pixdim": (1.0, 1e-30, 1.0)},
        {"pixdim": (1.0, 1e30, 1.0)},
    ],
    ids=str,
)
def test_a_place_that_is_none_is_refused_by_every_reader(tmp_path, fields):
    path = write_changed(tmp_path / "a.nii", **fields)
    for read in (read_image, read_labels, read_header):
        with pytest.raises(InputError, match=r"a\.nii"):
            read(path)
    for name in ("SimpleITKIO", "NibabelIO", "SimpleITKIOWithReorient", "NibabelIOWithReorient"):
        with pytest.raises(InputError, match=r"a\.nii"):
            reader(name).read_images([path])


def test_bytes_behind_the_voxels_pass_up_to_a_row(tmp_path):
    path = write_changed(tmp_path / "a.nii")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 9)
    check_nifti_length(path)
    path.write_bytes(whole + b"\0" * 10)
    with pytest.raises(InputError, match="more voxels than its header announces"):
        check_nifti_length(path)


def test_the_limit_counts_every_axis(tmp_path):
    path = write_changed(tmp_path / "a.nii")
    with allowing_voxels(105):
        assert read_image(path).shape == (3, 7, 5)
    for read in (read_image, read_header, reader("SimpleITKIO").read_images, reader("NibabelIO").read_images):
        with allowing_voxels(104), pytest.raises(InputError, match=r"5 x 7 x 3 values, .* limit of 104"):
            read([path] if getattr(read, "__name__", "") == "read_images" else path)
