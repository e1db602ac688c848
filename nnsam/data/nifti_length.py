"""Whether a NIfTI file is complete; ITK reads a file that is cut off without a word, the rest as arbitrary values."""

import gzip
import math
import struct
from pathlib import Path

from nnsam.errors import InputError

_CHUNK = 1 << 22


def check_nifti_length(path: Path) -> None:
    """Compares the length of a NIfTI file with what its header announces.

    Layout of the headers: https://nifti.nimh.nih.gov/nifti-1 and nifti-2.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or -2 of either byte order.

    Raises:
        InputError: shorter than announced, or no NIfTI header.
        OSError, EOFError, zlib.error: the compressed stream is damaged.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        expected = _announced_length(path, file.read(540))
        file.seek(0)
        length = 0
        while length < expected and (chunk := file.read(min(_CHUNK, expected - length))):
            length += len(chunk)
    if length < expected:
        raise InputError(f"{path} is cut off: it holds {length} bytes, its header announces {expected}.")


def _announced_length(path: Path, header: bytes) -> int:
    for order in "<>":
        for size, dims, bits, offset in ((348, "40s8h", "72sh", "108sf"), (540, "16s8q", "14sh", "168sq")):
            if len(header) < size or struct.unpack_from(order + "i", header)[0] != size:
                continue
            count, *sides = struct.unpack_from(order + dims, header)[1:]
            voxels = math.prod(max(1, side) for side in sides[: max(0, count)])
            bits_per_voxel = struct.unpack_from(order + bits, header)[1]
            return int(struct.unpack_from(order + offset, header)[1]) + voxels * max(0, bits_per_voxel) // 8
    raise InputError(f"{path} is not a NIfTI file, or it is cut off.")
