"""NIfTI, read and written by nibabel, so that label maps keep both forms, their codes and the units of their image.

Header fields: https://nifti.nimh.nih.gov/nifti-1 and nifti-2. A header may place its voxels twice, by a quaternion
(qform) and by an affine (sform), each with a code that says how far it is to be trusted, 0 for not at all.
"""

import gzip
import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import LARGEST, SMALLEST, Geometry, Image, Tolerance, agree, make_image, make_labels
from nnsam.io.limits import DEFLATE_RATIO, check_stored, check_voxels
from nnsam.support.text import shown

_ENDINGS = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540
_CHUNK = 1 << 22
# Bits per voxel of every number type, by its code in the header.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
_BITS |= {1536: 128, 1792: 128, 2048: 256, 2304: 32}
# NIfTI's positions count to the right and to the front, ITK's and DICOM's to the left and to the back.
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
# With codes of 0 ITK lets the axes point to the left, to the back and to the head.
_NO_FORM = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
# Single precision, and rounding of the quaternion's three numbers.
_ORTHONORMAL = Tolerance(relative=0, absolute=1e-3)
_SAME_SIZE = Tolerance(relative=1e-3, absolute=0)
_SAME_PLACE = Tolerance(relative=1e-3, absolute=1e-2)


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its ending."""
    return path.name.lower().endswith(_ENDINGS)


def is_gzipped(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its first bytes; endings are wrong now and then."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def check_nifti_length(path: Path) -> None:
    """Compares the length of a NIfTI file with what its header announces.

    Args:
        path: compressed or not, NIfTI-1 or -2 of either byte order.

    Raises:
        InputError: shorter than announced, longer by a row of voxels or more, or see `load_nifti`.
        OSError, EOFError, zlib.error: the compressed stream is damaged.
    """
    for _ in _chunks(path):
        pass


def _chunks(path: Path) -> Iterator[bytes]:
    """The content of a file from its start to the last voxel, no more than its header announces."""
    with gzip.open(path) if is_gzipped(path) else path.open("rb") as file:
        expected, row = _announced_length(path, file.read(_HEADER_BYTES))
        check_stored(path, expected, DEFLATE_RATIO if isinstance(file, gzip.GzipFile) else 1)
        file.seek(0)
        length = 0
        while length < expected and (chunk := file.read(min(_CHUNK, expected - length))):
            length += len(chunk)
            yield chunk
        # Beyond the last voxel stands gzip's checksum; without it damage stays unnoticed.
        surplus = len(file.read(row + 1))
    if surplus >= row:
        raise InputError(
            f"{path} holds more voxels than its header announces ({expected} bytes); restore its header, or export it "
            "again."
        )
    if length < expected:
        raise InputError(f"{path} is cut off: it holds {length} bytes, its header announces {expected}.")


# By the size of the header: places and struct formats of dim, of datatype and bitpix, of vox_offset with scl_slope and
# scl_inter, of the magic string, and that string.
_LAYOUTS = {
    348: (("40s8h", "70s2h", "108s3f", "344s4s"), b"n+1\0"),
    540: (("16s8q", "12s2h", "168sq2d", "4s8s"), b"n+2\0\r\n\x1a\n"),
}


def _announced_length(path: Path, header: bytes) -> tuple[int, int]:
    """Bytes from the start of a file to its last voxel, and of one row of voxels.

    Raises:
        InputError: no NIfTI header, one that contradicts itself, or more voxels than are allowed.
    """
    for order in "<>":
        for size, (formats, magic) in _LAYOUTS.items():
            if len(header) < size or struct.unpack_from(order + "i", header)[0] != size:
                continue
            dims, types, offsets, start = (struct.unpack_from(order + text, header)[1:] for text in formats)
            fault = _fault(dims, types, offsets)
            if not fault and start[0] != magic:
                fault = f"its magic string is {shown(start[0])}, and voxels in the same file need {shown(magic)}"
            if not fault and offsets[0] < size + 4:
                fault = f"its voxels begin at byte {offsets[0]:g}, within the header"
            if fault:
                raise InputError(f"{path} has a header that contradicts itself: {fault}; export it again.")
            sides = dims[1 : dims[0] + 1]
            check_voxels(path, sides)
            return int(offsets[0]) + math.prod(sides) * types[1] // 8, sides[0] * types[1] // 8
    raise InputError(f"{path} is not a NIfTI file, or it is cut off.")


def _fault(dims: tuple[int, ...], types: tuple[int, ...], offsets: tuple[float, ...]) -> str:
    """What cannot be so in a header; empty mostly."""
    count, *sides = dims
    if not 1 <= count <= 7 or min(sides[:count]) < 1:
        return f"its dim is {', '.join(map(str, dims))}, the number of axes and their lengths"
    if types[0] not in _BITS or types[1] != _BITS[types[0]]:
        expected = f"expected {_BITS[types[0]]}" if types[0] in _BITS else "which is no type that is known"
        return f"it has {types[1]} bits per voxel (bitpix) of datatype {types[0]}, {expected}"
    if not all(map(math.isfinite, offsets)) or offsets[0] != int(offsets[0]):
        return "its vox_offset, scl_slope and scl_inter are {:g}, {:g} and {:g}".format(*offsets)
    return ""


def load_nifti(path: Path) -> Any:
    """Loads a NIfTI file by its content, whatever its ending says of compression.

    Returns:
        nibabel's image, Nifti1Image or Nifti2Image.

    Raises:
        InputError: cut off, no NIfTI header, one that contradicts itself or the length of the file, more voxels than
            are allowed (see `nnsam.io.limits`), or no pixel size.
        Exception: whatever gzip or nibabel raise about a damaged file.
    """
    content = io.BytesIO()
    for chunk in _chunks(path):
        content.write(chunk)
    return _as_image(path, content)


def load_nifti_header(path: Path) -> Any:
    """Nibabel's header of a NIfTI file, without reading its voxels; see `load_nifti`."""
    with gzip.open(path) if is_gzipped(path) else path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    _announced_length(path, start)
    return _as_image(path, io.BytesIO(start)).header


def has_nan_or_infinity(path: Path) -> bool:
    """Whether voxels are nan or infinite after scaling; reads the whole file, and checks its length.

    Raises:
        InputError: cut off, or no NIfTI header.
        Exception: whatever gzip or nibabel raise about a damaged file.
    """
    header = load_nifti_header(path)
    if header.get_data_dtype().kind in "iu" and header.get_slope_inter() in ((None, None), (1.0, 0.0)):
        check_nifti_length(path)
        return False
    values = np.asanyarray(load_nifti(path).dataobj)
    return values.dtype.kind in "fc" and not np.isfinite(values).all()


def _as_image(path: Path, content: io.BytesIO) -> Any:
    from nibabel.fileholders import FileHolder
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    first = content.getbuffer()[:4]
    is_second = 540 in (struct.unpack("<i", first)[0], struct.unpack(">i", first)[0])
    first.release()
    kind: Any = Nifti2Image if is_second else Nifti1Image
    content.seek(0)
    _check_pixel_size(path, kind.header_class.from_fileobj(content, check=False))
    content.seek(0)
    with _quiet_nibabel():
        return kind.from_file_map({"image": FileHolder(fileobj=content)})


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Keeps nibabel from printing what it mends in headers; what matters of it is told here."""
    from nibabel.imageglobals import LoggingOutputSuppressor

    with LoggingOutputSuppressor():
        yield


def read_nifti(path: Path) -> Image:
    """Reads an image: grey or in colour, of 2 or 3 dimensions, in mm whatever the file's unit is.

    Where both forms are given and differ, the one is taken that ITK takes, and with it nnU-Net's default reader: the
    sform where there is no qform, or where its code is 1 and its axes are perpendicular.

    Returns:
        With notices where the forms or the pixel sizes differ, and where axes are not perpendicular.

    Raises:
        InputError: cut off, with a time axis, channels that are no colours, nan or infinite voxels, no pixel size, no
            place, or see `make_image`.
        Exception: whatever gzip or nibabel raise about a damaged file.
    """
    volume = load_nifti(path)
    voxels, is_vector = _voxels(path, volume)
    dimensions = voxels.ndim - is_vector
    if is_vector and voxels.shape[-1] not in (1, 3, 4):
        raise InputError(f"{path} has {voxels.shape[-1]} values per pixel; expected grey, RGB or RGBA.")
    geometry, notices = _place(path, volume.header, dimensions)
    pixels = voxels.transpose([*range(dimensions)[::-1], *range(dimensions, voxels.ndim)])
    if is_vector:
        pixels = pixels[..., :3] if pixels.shape[-1] > 1 else pixels[..., 0]
    return make_image(
        path, pixels, dimensions, kind="volume", geometry=geometry, notices=notices, nifti=volume.header.copy()
    )


def read_nifti_labels(path: Path) -> Image:
    """Reads a label map, of whatever 2 or 3 dimensions the file has; places and notices as `read_nifti`.

    Raises:
        InputError: cut off, in colour, with a time axis, no pixel size, no place, or see `make_labels`.
        Exception: whatever gzip or nibabel raise about a damaged file.
    """
    volume = load_nifti(path)
    voxels, is_vector = _voxels(path, volume)
    if is_vector:
        raise InputError(f"{path} is not a label map: it has {voxels.shape[-1]} values per voxel.")
    geometry, notices = _place(path, volume.header, voxels.ndim)
    return make_labels(path, voxels.T, kind="volume", geometry=geometry, notices=notices, nifti=volume.header.copy())


def read_nifti_header(path: Path) -> tuple[tuple[int, ...], Geometry]:
    """Number of pixels along x, y[, z] and the geometry; the file's length is checked.

    Raises:
        InputError: cut off, with a time axis, no pixel size, or no place.
        Exception: whatever gzip or nibabel raise about a damaged file.
    """
    check_nifti_length(path)
    header = load_nifti_header(path)
    shape, _ = _grid(path, header)
    return shape, _place(path, header, len(shape))[0]


def _grid(path: Path, header: Any) -> tuple[tuple[int, ...], bool]:
    """Sides along x, y[, z] without further axes of 1, and whether a fifth axis holds the values of a voxel."""
    shape = tuple(int(side) for side in header.get_data_shape())
    is_vector = len(shape) == 5 and shape[3] == 1 and shape[4] > 1
    sides = shape[:3] if is_vector or all(side == 1 for side in shape[3:]) else shape
    if len(sides) not in (2, 3):
        raise InputError(
            f"{path} has {len(sides)} dimensions, size {sides}; expected 2 or 3, so save each time point or channel as "
            "its own file."
        )
    return sides, is_vector


def _voxels(path: Path, volume: Any) -> tuple[NDArray, bool]:
    """Array (x, y[, z]), with the values of a voxel last if there are several; scaled as the header says."""
    sides, is_vector = _grid(path, volume.header)
    values = np.asanyarray(volume.dataobj)
    if values.dtype.names:  # RGB and RGBA are stored as structures of bytes
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
        return values.reshape(sides + values.shape[-1:]), True
    return values.reshape(sides + values.shape[4:] if is_vector else sides), is_vector


def _place(path: Path, header: Any, dimensions: int) -> tuple[Geometry, tuple[str, ...]]:
    """Geometry in mm and in ITK's directions, and what is to be told of it."""
    scale = _MM.get(header.get_xyzt_units()[0], 1.0)
    stated = np.abs(header["pixdim"][1:4].astype(np.float64))
    stated[dimensions:] = 1
    stated[stated == 0] = 1  # of axes of one pixel
    chosen, other = _forms(header, stated)
    if not np.isfinite(chosen).all():
        raise InputError(f"{path} places its voxels at nan or infinity; mend sform or qform in its header.")
    columns = _TO_LPS @ chosen[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not lengths.all() or abs(np.linalg.det(columns / np.where(lengths, lengths, 1))) < 1e-3:
        raise InputError(f"{path} has axes that lie in one plane; mend sform or qform in its header.")
    notices = _differences(path, chosen, other, lengths, stated)
    direction = (columns / lengths)[:dimensions, :dimensions]
    geometry = Geometry(
        tuple(float(size * scale) for size in stated[:dimensions]),
        tuple(float(value * scale) for value in (_TO_LPS @ chosen[:3, 3])[:dimensions]),
        tuple(direction.ravel().tolist()),
    )
    return geometry, notices


def _check_pixel_size(path: Path, header: Any) -> None:
    """Refuses a header without pixel size, which nibabel and ITK take for 1 mm; an axis of one pixel needs none."""
    sides = header["dim"][1:4][: max(int(header["dim"][0]), 0)]
    stated = np.abs(header["pixdim"][1:4][: len(sides)].astype(np.float64))
    is_none = ~np.isfinite(stated) | (stated > LARGEST) | ((stated < SMALLEST) & (sides[: len(stated)] > 1))
    if is_none.any():
        text = " x ".join(f"{size:g}" for size in stated)
        raise InputError(
            f"{path} states a pixel size of {text}; expected numbers above 0, so mend pixdim in its header."
        )


def _forms(header: Any, stated: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The affine that counts, as ITK chooses it, and the one that does not, if the file has both."""
    codes = int(header["qform_code"]), int(header["sform_code"])
    quaternion = header.get_qform(coded=False) if codes[0] > 0 else None
    affine = header.get_sform(coded=False).astype(np.float64) if codes[1] > 0 else None
    if quaternion is None and affine is None:
        return _NO_FORM @ np.diag([*stated, 1]), None
    if quaternion is None:
        assert affine is not None
        return affine, None
    if affine is None or not (codes[1] == 1 and _is_orthogonal(affine)):
        return quaternion, affine
    return affine, quaternion


def _is_orthogonal(affine: NDArray[np.float64]) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(lengths).all() or not lengths.all():
        return False
    cosines = affine[:3, :3] / lengths
    return agree(cosines.T @ cosines, np.eye(3), _ORTHONORMAL)


def _differences(
    path: Path,
    chosen: NDArray[np.float64],
    other: NDArray[np.float64] | None,
    lengths: NDArray[np.float64],
    stated: NDArray[np.float64],
) -> tuple[str, ...]:
    notices = []
    if other is not None and not agree(chosen, other, _SAME_PLACE):
        notices.append(
            f"{path} places its voxels differently by sform and qform; they are compared with other files by the one "
            "that ITK takes, and label maps keep both."
        )
    if not agree(lengths, stated, _SAME_SIZE):
        text = [" x ".join(f"{size:.4g}" for size in sizes) for sizes in (lengths, stated)]
        notices.append(f"{path} has pixels of {text[0]} by its affine and of {text[1]} by pixdim, which is taken.")
    if not _is_orthogonal(chosen):
        notices.append(
            f"{path} has axes that are not perpendicular to each other; voxels are taken as they are stored, and "
            "distances in mm along the axes."
        )
    return tuple(notices)


def write_nifti(draft: Path, labels: NDArray, header: Any) -> None:
    """Writes a label map with the place, the forms and the units of its image.

    Args:
        draft: *.nii or *.nii.gz.
        labels: (y, x) or (z, y, x) in the image's shape.
        header: nibabel's, of the image.

    Raises:
        OSError: the file cannot be written completely.
    """
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Header, Nifti2Image

    kept = header.as_byteswapped("<")
    kept.extensions.clear()  # they describe the image, and may name the patient
    kept.set_data_dtype(labels.dtype)
    kept.set_slope_inter(1, 0)
    kept.set_intent("none")
    kept["cal_max"] = kept["cal_min"] = 0
    kind = Nifti2Image if isinstance(header, Nifti2Header) else Nifti1Image
    content = kind(labels.T, None, kept).to_bytes()
    if draft.name.lower().endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    draft.write_bytes(content)
