"""DICOM images: one file, or the files of a series, to pixels in the order of their positions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError
from nnsam.io.dicom.headers import Header, read_data_set, read_header
from nnsam.io.dicom.lengths import check_pixel_data
from nnsam.io.dicom.pixels import rescaled, stored_frame, type_for
from nnsam.io.dicom.stack import Stack, make_stack
from nnsam.io.image import DicomSource, Image, Kind, decoding, make_image
from nnsam.io.limits import check_voxels

_DAMAGED = "{path} is damaged: its pixel data cannot be decoded ({reason}); copy or export it again."


def read_dicom(path: Path) -> Image:
    """Reads one file: a picture, or an enhanced multi-frame volume with its frames in the order of their positions.

    Raises:
        InputError: unreadable, no image, or frames that make no volume.
        SetupError: pydicom, or what its compression needs, is not installed.
    """
    header = read_header(path)
    if header is None:
        raise InputError(f"{path} is a DICOM object, but no image that can be segmented; give the images it is about.")
    return read_headers(path, [header], "dicom")


def read_headers(source: Path, headers: Sequence[Header], kind: Kind, notices: Sequence[str] = ()) -> Image:
    """Reads files that make one image; their values are rescaled slice by slice.

    Args:
        source: what the image is called in messages, a file or a folder.
        headers: of its files.
        kind: "dicom" for one file, "series" for several.
        notices: what is known of the files already.

    Raises:
        InputError: they make no single image, see `make_stack`; or pixel data is damaged.
        SetupError: see `read_dicom`.
    """
    with decoding(source):
        stack = make_stack(source, headers)
    first = stack.slices[0].header
    check_voxels(source, (len(stack.slices), *first.size, first.samples))
    pixels, inverted = _read_pixels(stack)
    told = [*notices, *stack.notices]
    if inverted:
        told.append(
            f"{inverted} stores bright as low values (MONOCHROME1); they are turned over, as viewers show them."
        )
    is_single = len(stack.slices) == 1
    return make_image(
        source,
        pixels,
        3 if stack.geometry is not None or not is_single else 2,
        kind=kind,
        spacing=None if stack.geometry is not None else stack.spacing,
        geometry=stack.geometry,
        notices=tuple(told),
        dicom=DicomSource(
            tuple(one.header.path for one in stack.slices), tuple(one.frame.number for one in stack.slices)
        ),
    )


def _read_pixels(stack: Stack) -> tuple[NDArray, Path | None]:
    """(D, H, W[, 3]) values, of a picture without place (H, W[, 3]); and the first file that was turned over."""
    data: dict[Path, Any] = {}
    kinds = []
    for one in stack.slices:
        path = one.header.path
        if path not in data:
            data[path] = read_data_set(path, pixels=False)
        kinds.append((data[path], one.frame.number))
    with decoding(stack.slices[0].header.path):
        dtype = type_for(kinds)
    data.clear()
    result: NDArray | None = None
    inverted = None
    open_path, whole = None, None
    for index, one in enumerate(stack.slices):
        path = one.header.path
        if path != open_path:
            open_path, whole = path, read_data_set(path, pixels=True)
            with decoding(path, _DAMAGED):
                check_pixel_data(whole)
        try:
            with decoding(path, _DAMAGED):
                values, is_inverted = _values(whole, one.frame.number, dtype, has_place=stack.geometry is not None)
                _check_shape(values, one.header)
        except SetupError as error:
            raise SetupError(f"{path}: {error}") from error
        inverted = inverted or (path if is_inverted else None)
        if result is None:
            result = np.empty((len(stack.slices), *values.shape), values.dtype)
        if result.shape[1:] != values.shape:
            raise InputError(f"{path} is in colour and other images of the series are not; give each kind a folder.")
        result[index] = values
    assert result is not None
    return (result[0] if len(stack.slices) == 1 and stack.geometry is None else result), inverted


def _values(data: Any, number: int, dtype: np.dtype, *, has_place: bool) -> tuple[NDArray, bool]:
    pixels = stored_frame(data, number)
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else _eight_bits(pixels, int(data.BitsStored)), False
    values = rescaled(pixels, data, number, dtype)
    # Only where the values are a picture's: those of slices may be a physical quantity.
    if data.get("PhotometricInterpretation") != "MONOCHROME1" or has_place or values.dtype.kind not in "ui":
        return values, False
    ends = rescaled(np.array([0, (1 << int(data.BitsStored)) - 1]), data, number, np.dtype(np.int64))
    if int(data.get("PixelRepresentation") or 0) == 1:
        ends = ends - (1 << (int(data.BitsStored) - 1))
    return (int(ends.sum()) - values.astype(np.int64)).astype(values.dtype), True


def _eight_bits(pixels: NDArray, bits: int) -> NDArray[np.uint8]:
    return (pixels >> max(0, bits - 8)).astype(np.uint8)


def _check_shape(values: NDArray, header: Header) -> None:
    if values.shape[:2] != header.size:
        raise InputError(
            f"{header.path} states {header.size} rows and columns and holds {values.shape[:2]}; export it again."
        )
