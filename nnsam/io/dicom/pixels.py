"""Pixel data of DICOM files: decoded, in their own colours, and in the unit that rescaling gives them."""

import io
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import SetupError
from nnsam.io.dicom.headers import frame_groups, frame_item
from nnsam.support.installation import how_to_install
from nnsam.support.text import shown

_JPEG_BASELINE = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")


def stored_frame(data: Any, number: int) -> NDArray:
    """Decodes a frame.

    Args:
        data: of pydicom, with the pixel data.
        number: of the frame, from 1.

    Returns:
        (H, W) stored values, or (H, W, 3) RGB; palettes become RGB.

    Raises:
        SetupError: no installed package decodes the compression.
        Exception: whatever pydicom raises about damaged data.
    """
    from pydicom.pixels import apply_color_lut, pixel_array

    is_colour = int(data.get("SamplesPerPixel") or 1) == 3
    transfer = str(getattr(data, "file_meta", {}).get("TransferSyntaxUID", ""))
    if is_colour and transfer in _JPEG_BASELINE and int(data.get("BitsStored") or 8) == 8:
        return _jpeg_colours(data, number)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")  # of header entries that contradict the stream, which is what is decoded
        try:
            pixels = pixel_array(data, index=number - 1)
        except RuntimeError as error:
            if "missing dependencies" not in str(error) and "plugins are missing" not in str(error):
                raise
            raise SetupError(
                f"its compression ({data.file_meta.TransferSyntaxUID.name}) needs a package that is missing; "
                f"{how_to_install('dicom')}"
            ) from error
    _check_surplus(told, pixels.shape[1])
    if data.get("PhotometricInterpretation") == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)
        return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
    return pixels


# What pydicom tells of an RLE stream that holds more than rows x columns, which alone it gives.
_SURPLUS = re.compile(r"decoded RLE segment .* (\d+) vs. (\d+) bytes")


def _check_surplus(told: Sequence[Any], columns: int) -> None:
    for one in told:
        found = _SURPLUS.search(str(one.message))
        if found is not None and int(found[1]) >= int(found[2]) + columns:
            raise ValueError(f"it holds {found[1]} bytes per channel, rows and columns make {found[2]}")


def _jpeg_colours(data: Any, number: int) -> NDArray[np.uint8]:
    """An 8-bit colour JPEG in the colour space that its stream declares; where it declares none, the header's.

    A stream declares it by a JFIF marker (YCbCr), Adobe's (its transform), or components named R, G and B. Header
    entries are often left over from before the compression.
    """
    import PIL.Image
    from pydicom.encaps import get_frame

    count = int(data.get("NumberOfFrames") or 1)
    stream = get_frame(data.PixelData, number - 1, number_of_frames=count)
    picture: Any = PIL.Image.open(io.BytesIO(stream), formats=("JPEG",))
    declared = "jfif" in picture.info or "adobe" in picture.info or _component_names(stream) in (b"RGB", b"rgb")
    if not declared and data.get("PhotometricInterpretation") == "RGB":
        picture.draft(
            "YCbCr", picture.size
        )  # the decoder would convert, as it takes streams without a marker for YCbCr
        return np.asarray(picture)
    return np.asarray(picture.convert("RGB"))


def _component_names(stream: bytes) -> bytes:
    """Identifiers of a JPEG's three components, in its start-of-frame segment (ITU T.81, B.2.2)."""
    place = 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xC3:
            return bytes(stream[place + 10 + 3 * index] for index in range(3) if place + 10 + 3 * index < len(stream))
        place += 2 + length
    return b""


def rescaling(data: Any, number: int) -> tuple[Fraction, Fraction]:
    """Slope and intercept that turn a frame's stored values into the image's unit, exact as they are written.

    Of an enhanced image they stand in the functional group of the frame, else in the data set (C.11.1, C.7.6.16.2.9).
    """
    groups = frame_groups(data, number - 1)
    place = frame_item(groups, "PixelValueTransformationSequence")
    place = data if place is None else place
    slope, intercept = (place.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    scale = _fraction(slope, 1)
    if scale == 0:
        raise ValueError("its rescale slope is 0, which would make all values the same; expected another number")
    return scale, _fraction(intercept, 0)


# Of what double precision holds, subnormal numbers too.
_MIN_EXPONENT, _MAX_EXPONENT = -324, 308


def _fraction(value: Any, default: int) -> Fraction:
    if value is None or value == "":
        return Fraction(default)
    text = str(getattr(value, "original_string", value)).strip()
    try:
        number = Decimal(text)
        if _MIN_EXPONENT <= number.adjusted() <= _MAX_EXPONENT and len(text) <= _MAX_EXPONENT:
            return Fraction(number)  # of bounded length
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(f"a rescale slope or intercept is {shown(text)}; expected a number")


def type_for(headers: Sequence[tuple[Any, int]]) -> np.dtype:
    """The smallest common type that holds the values of all frames after rescaling.

    Args:
        headers: data sets, which need no pixel data, and the numbers of their frames.
    """
    low, high = 0, 0
    for data, number in headers:
        if (
            data.get("PixelRepresentation") is None and data.get("BitsStored") is None
        ):  # Float and Double Float Pixel Data have none (C.7.6.24, C.7.6.25)
            return np.dtype(np.float64 if int(data.get("BitsAllocated") or 32) == 64 else np.float32)
        bits = int(data.get("BitsStored") or data.get("BitsAllocated") or 16)
        is_signed = int(data.get("PixelRepresentation") or 0) == 1
        ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
        if data.get("ModalityLUTSequence"):
            ends = (0, (1 << 16) - 1)
        else:
            slope, intercept = rescaling(data, number)
            if slope.denominator != 1 or intercept.denominator != 1:
                return np.dtype(np.float32 if bits <= 16 else np.float64)
            one, other = (int(slope * end + intercept) for end in ends)
            ends = (min(one, other), max(one, other))
        low, high = min(low, ends[0]), max(high, ends[1])
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def rescaled(pixels: NDArray, data: Any, number: int, dtype: np.dtype) -> NDArray:
    """A grey frame's values in the image's unit.

    Args:
        pixels: stored values.
        data: of pydicom.
        number: of the frame, from 1.
        dtype: of the result, see `type_for`.
    """
    if data.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        return apply_modality_lut(pixels, data).astype(dtype)
    slope, intercept = rescaling(data, number)
    if slope == 1 and intercept == 0:
        return pixels.astype(dtype, copy=False)
    if dtype.kind in "ui":
        return (pixels.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)
    return (pixels * float(slope) + float(intercept)).astype(dtype)
