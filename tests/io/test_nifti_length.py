import gzip

import nibabel
import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.io.nifti import check_nifti_length


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
