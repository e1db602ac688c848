"""Pictures without a geometry: PNG, JPEG, BMP and TIFF of any pixel type; a TIFF of several pages is a volume."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.io.image import Image, decoding, make_image, make_labels

# Pillow's modes -> the mode with the same content that has a meaning here: alpha dropped, colours as RGB.
_MODES = {"RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_MODES |= {"P": "RGB", "PA": "RGB", "LA": "L", "La": "L", "1": "L"}
_EXIF_ORIENTATION = 0x0112


def read_picture(path: Path) -> Image:
    """Reads a PNG, JPEG or BMP in the order in which its pixels are stored.

    16-bit grey stays 16-bit; 16-bit colour is reduced to 8 bits (by Pillow). Alpha is dropped, palettes and CMYK
    become RGB.

    Raises:
        InputError: unreadable, or see `make_image`.

    Warns:
        NnsamWarning: the file asks viewers to rotate it, which is not done here, as nnU-Net does not either.
    """
    import PIL.Image

    with decoding(path), PIL.Image.open(path) as picture:
        if picture.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            warnings.warn(
                f"{path} carries an EXIF rotation, which is not applied: boxes and masks count stored pixels.",
                NnsamWarning,
                stacklevel=2,
            )
        pixels = _decode(picture)
    return make_image(path, pixels, 2, kind="picture")


def read_tiff(path: Path) -> Image:
    """Reads a TIFF: one page is a picture, several pages of one size are a volume without spacing.

    Raises:
        InputError: unreadable, pages of different sizes, more axes than a volume has, channels that are no colours.
    """
    with decoding(path):
        pixels, axes = _read_pages(path)
        pixels, dimensions = _arrange(path, pixels, axes)
    return make_image(path, pixels, dimensions, kind="tiff")


def read_picture_labels(path: Path) -> Image:
    """Reads a label map from a PNG or BMP.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    with decoding(path):
        values = stored_pixels(path)
    if values.ndim != 2:
        raise _in_colour(path, values)
    return make_labels(path, values, kind="picture")


def read_tiff_labels(path: Path) -> Image:
    """Reads a label map from a TIFF; three or four pages are slices, no colours.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    with decoding(path):
        values = tiff_pages(path)
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[-1] > 4):
        raise _in_colour(path, values)
    return make_labels(path, values, kind="tiff")


def _in_colour(path: Path, values: NDArray) -> InputError:
    return InputError(f"{path} is not a label map but a colour picture (shape {values.shape}); save label values.")


def read_picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG or BMP, from its header."""
    import PIL.Image

    with PIL.Image.open(path) as picture:
        return picture.size


def read_tiff_size(path: Path) -> tuple[int, ...]:
    """Number of pixels along x, y[, z] of a TIFF, colours first, from its header."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return tiff.series[0].shape[::-1]


def stored_pixels(path: Path) -> NDArray:
    """Decodes a picture as it is stored: no rotation, palettes as colours, alpha kept.

    Returns:
        (H, W) or (H, W, channels), what scikit-image reads.

    Raises:
        InputError: several pictures in one file.
        Exception: whatever Pillow raises about a damaged file.
    """
    import PIL.Image

    with PIL.Image.open(path) as picture:
        if getattr(picture, "is_animated", False):
            raise InputError(f"{path} holds {picture.n_frames} pictures; save each as its own file.")
        if picture.mode == "P":
            return np.asarray(picture.convert(picture.palette.mode))
        return np.asarray(picture)


def tiff_pages(path: Path) -> NDArray:
    """Reads the pages of a TIFF as tifffile arranges them.

    Raises:
        InputError: the file is cut off after some of its pages; tifffile gives those without a word.
        SetupError: its compression needs a package that is missing.
        Exception: whatever tifffile raises about a damaged file.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        _check_page_chain(path, tiff)
        try:
            return tiff.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise SetupError(
                f"{path} is compressed in a way that needs the package imagecodecs; `pip install imagecodecs`, or save "
                "it uncompressed or with deflate"
            ) from error


def write_tiff_pages(draft: Path, labels: NDArray[np.integer], compression: str | None) -> None:
    """Writes (y, x) or (z, y, x) labels as grey pages.

    Raises:
        OSError: the file cannot be written completely.
    """
    import tifffile

    content = io.BytesIO()  # written to a file itself, tifffile does not notice a full disk
    tifffile.imwrite(content, labels, compression=compression, photometric="minisblack")
    draft.write_bytes(content.getbuffer())


def _check_page_chain(path: Path, tiff: Any) -> None:
    """Follows the offsets from page to page; layout of a page's directory: TIFF 6.0 section 2, and BigTIFF."""
    file, order = tiff.filehandle, tiff.byteorder
    count_type, entry, offset_type = ("u8", 20, "u8") if tiff.is_bigtiff else ("u2", 12, "u4")
    offset = tiff.pages.first.offset
    visited: set[int] = set()
    while offset:
        if offset in visited or offset >= file.size:
            raise InputError(f"{path} is cut off or damaged after {len(visited)} pages; copy or export it again.")
        visited.add(offset)
        entries = _number(file, offset, order + count_type)
        offset = _number(file, offset + np.dtype(count_type).itemsize + entry * entries, order + offset_type)


def _number(file: Any, offset: int, kind: str) -> int:
    """The number at an offset; the file's size, which no offset in it reaches, where the file ends before."""
    if offset + np.dtype(kind).itemsize > file.size:
        return int(file.size)
    file.seek(offset)
    return int(np.frombuffer(file.read(np.dtype(kind).itemsize), kind)[0])


def _decode(picture: Any) -> NDArray:
    """(H, W) or (H, W, 3) of an opened Pillow image."""
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns
    mode = _MODES.get(picture.mode, picture.mode)
    return np.asarray(picture if mode == picture.mode else picture.convert(mode))


def _read_pages(path: Path) -> tuple[NDArray, str]:
    """Array of all pages and its axes, a letter each as tifffile names them."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        _check_page_chain(path, tiff)
        series = [one for one in tiff.series if not one.keyframe.is_reduced]  # without previews
        if len(series) != 1:
            raise InputError(f"{path} holds {len(series)} pictures of different sizes; save each as its own file.")
        colours = series[0].keyframe.photometric.name
        if colours not in ("MINISBLACK", "MINISWHITE", "RGB"):
            return _read_pages_with_pillow(path)
        try:
            pixels = series[0].asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _read_pages_with_pillow(path)  # LZW, JPEG and others need a package that Pillow does without
        if colours == "MINISWHITE" and pixels.dtype.kind == "u":
            pixels = np.iinfo(pixels.dtype).max - pixels
        return pixels, series[0].axes


def _read_pages_with_pillow(path: Path) -> tuple[NDArray, str]:
    import PIL.Image
    from PIL import ImageSequence

    with PIL.Image.open(path) as picture:
        pages = [_decode(page) for page in ImageSequence.Iterator(picture)]
    if len({page.shape for page in pages}) > 1:
        raise InputError(f"{path} holds {len(pages)} pictures of different sizes; save each as its own file.")
    return np.stack(pages), "IYXS" if pages[0].ndim == 3 else "IYX"


def _arrange(path: Path, pixels: NDArray, axes: str) -> tuple[NDArray, int]:
    """Pixels with colours last and without empty axes, and the number of axes that are not colours."""
    kept = [index for index, axis in enumerate(axes) if axis in "YXS" or pixels.shape[index] > 1]
    pixels, axes = pixels.reshape([pixels.shape[index] for index in kept]), "".join(axes[index] for index in kept)
    channel = next((axis for axis in "SC" if axis in axes), None)
    if channel is not None:
        pixels, axes = np.moveaxis(pixels, axes.index(channel), -1), axes.replace(channel, "")
        count = pixels.shape[-1]
        if count > 4 or (channel == "C" and count != 3):
            raise InputError(f"{path} has {count} channels; expected grey, RGB or RGBA.")
        pixels = pixels[..., :3] if count >= 3 else pixels[..., 0]
    if len(axes) not in (2, 3):
        raise InputError(f"{path} has {len(axes)} dimensions ({axes}); expected a picture or one stack of pages.")
    return pixels, len(axes)
