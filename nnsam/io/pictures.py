"""Pictures without a geometry: PNG, JPEG, BMP and TIFF of any pixel type; a TIFF of several pages is a volume."""

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError
from nnsam.io.image import Image, decoding, make_image, make_labels
from nnsam.io.limits import DEFLATE_RATIO, check_stored, check_voxels

# Pillow's modes -> the mode with the same content that has a meaning here: alpha dropped, colours as RGB.
_MODES = {"RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_MODES |= {"P": "RGB", "PA": "RGB", "LA": "L", "La": "L", "1": "L"}
_EXIF_ORIENTATION = 0x0112
# Pillow chooses among dozens by the content, one of which starts another program.
_DECODERS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP")
# How many bytes of pixels a stored one may stand for: a bit of a JPEG for a block of 8 x 8, a code of a GIF for 4096
# pixels. Others have no limit that matters.
_RATIOS = {"PNG": DEFLATE_RATIO, "JPEG": 1024, "MPO": 1024, "BMP": 256, "DIB": 256, "GIF": 4096}
# Likewise of TIFF, for its compressions; of others than these.
_TIFF_RATIOS = {"NONE": 1, "PACKBITS": 128, "LZW": 4096, "DEFLATE": DEFLATE_RATIO, "ADOBE_DEFLATE": DEFLATE_RATIO}
_TIFF_RATIO = 2**16
_pillow_lock = threading.Lock()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture as Pillow opens it, its pixels not yet decoded.

    Raises:
        InputError: more values than are allowed, or than the file can hold.
        Exception: whatever Pillow raises about a damaged file.
    """
    import PIL.Image

    with _pillow_lock:  # its own limit is one for the whole process, and is replaced by `check_voxels`
        before, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            picture = PIL.Image.open(path, formats=_DECODERS)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before
    with picture:
        shape = (*picture.size[::-1], len(picture.getbands()))
        check_voxels(path, shape)
        bits = 1 if picture.mode in ("1", "L", "P") else 8  # a byte may hold 8 pixels of such a picture
        check_stored(path, math.prod(shape) * bits // 8, _RATIOS.get(picture.format or "", 2**20))
        yield picture


def read_picture(path: Path) -> Image:
    """Reads a PNG, JPEG or BMP in the order in which its pixels are stored.

    16-bit grey stays 16-bit; 16-bit colour is reduced to 8 bits (by Pillow). Alpha is dropped, palettes and CMYK
    become RGB.

    Returns:
        With a notice where the file asks viewers to rotate it, which is not done here, as nnU-Net does not either.

    Raises:
        InputError: unreadable, or see `make_image`.
    """
    with decoding(path), _opened(path) as picture:
        is_rotated = picture.getexif().get(_EXIF_ORIENTATION, 1) != 1
        pixels = _decode(picture)
    notice = f"{path} carries an EXIF rotation, which is not applied: boxes and masks count stored pixels."
    return make_image(path, pixels, 2, kind="picture", notices=(notice,) if is_rotated else ())


def read_tiff(path: Path) -> Image:
    """Reads a TIFF: one page is a picture, several pages of one size are a volume without spacing.

    Pixels come in the order in which they are stored. Palettes and CMYK become RGB, grey where 0 is white is inverted,
    and 1-bit pages become 0 and 255, as they do in a PNG.

    Returns:
        With a notice where the file asks viewers to turn it, which is not done here, as nnU-Net does not either; or
        states inverted grey of a type that has no white.

    Raises:
        InputError: unreadable, pages of different sizes, more axes than a volume has, colours of another kind.
        SetupError: its compression needs a package that is missing.
    """
    with decoding(path):
        pixels, axes, notices = _read_pages(path)
        pixels, dimensions = _arrange(path, pixels, axes)
    return make_image(path, pixels, dimensions, kind="tiff", notices=notices)


def read_picture_labels(path: Path) -> Image:
    """Reads a label map from a PNG or BMP: grey values of any bit depth, indices of a palette, or three equal colours.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    with decoding(path):
        values = _grey(_label_pixels(path))
    if values.ndim != 2:
        raise _in_colour(path, values)
    return make_labels(path, values, kind="picture")


def read_tiff_labels(path: Path) -> Image:
    """Reads a label map from a TIFF, as its values are stored; three or four pages are slices, no colours.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    with decoding(path):
        values = _grey(tiff_pages(path))
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[-1] > 4):
        raise _in_colour(path, values)
    return make_labels(path, values, kind="tiff")


_PNG_GREY = 0
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # places in the header, https://www.w3.org/TR/png-3/#11IHDR


# Levels below are too dark for a palette that is made to be looked at.
_VISIBLE = 64


def _label_pixels(path: Path) -> NDArray:
    """Values as they are stored, which Pillow spreads over 0 to 255 for grey of 2 and 4 bits, and hides in palettes."""
    with _opened(path) as picture:
        if picture.mode == "P" and not getattr(picture, "is_animated", False):
            return _indices_or_greys(np.asarray(picture), np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3))
    values = stored_pixels(path)
    with path.open("rb") as file:
        header = file.read(_PNG_COLOUR + 1)
    if header.startswith(b"\x89PNG") and header[_PNG_COLOUR] == _PNG_GREY and header[_PNG_DEPTH] in (2, 4):
        values = values // (255 // (2 ** header[_PNG_DEPTH] - 1))
    return values


def _indices_or_greys(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The labels of a picture with a palette, of which the index is the label.

    An optimiser may have put grey values into a palette in an order of its own. Greys that do not run from black to
    bright, or are too dark to be seen, are taken for such values.
    """
    used = np.unique(indices)
    if used.size == 0 or used[-1] >= len(colours) or (colours[used] != colours[used, :1]).any():
        return indices
    greys = colours[:, 0]
    runs_upwards = bool((np.diff(greys[used].astype(int)) > 0).all()) and (used[0] != 0 or greys[0] == 0)
    return indices if runs_upwards and greys[used].max() >= _VISIBLE else greys[indices]


def _grey(values: NDArray) -> NDArray:
    """One channel where the colours are equal and nothing is transparent; else unchanged."""
    if values.ndim != 3 or values.shape[-1] not in (2, 3, 4):
        return values
    colours, alpha = (values[..., :3], values[..., 3:]) if values.shape[-1] > 2 else (values[..., :1], values[..., 1:])
    return colours[..., 0] if (colours == colours[..., :1]).all() and (alpha == alpha.max(initial=0)).all() else values


def _in_colour(path: Path, values: NDArray) -> InputError:
    return InputError(f"{path} is not a label map but a colour picture (shape {values.shape}); save label values.")


def read_picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG or BMP, from its header."""
    with _opened(path) as picture:
        return picture.size


def read_tiff_size(path: Path) -> tuple[int, ...]:
    """Number of pixels along x, y[, z] of a TIFF, colours first, from its header."""
    with _opened_tiff(path) as tiff:
        return tiff.series[0].shape[::-1]


def stored_pixels(path: Path) -> NDArray:
    """Decodes a picture as it is stored: no rotation, palettes as colours, alpha kept.

    Returns:
        (H, W) or (H, W, channels), what scikit-image reads.

    Raises:
        InputError: several pictures in one file.
        Exception: whatever Pillow raises about a damaged file.
    """
    with _opened(path) as picture:
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
    with _opened_tiff(path) as tiff:
        return _decoded(path, tiff)


@contextmanager
def _opened_tiff(path: Path) -> Iterator[Any]:
    """A TIFF as tifffile opens it, without files that its metadata names; its pages are followed and measured.

    Raises:
        InputError: cut off after some of its pages, more values than are allowed, or than the file can hold.
        Exception: whatever tifffile raises about a damaged file.
    """
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as tiff:
        _check_page_chain(path, tiff)
        for series in tiff.series:
            check_voxels(path, series.shape)
            name = series.keyframe.compression.name
            check_stored(path, _stored_bytes(series), _TIFF_RATIOS.get(name, _TIFF_RATIO))
            if any(page is None for page in series.pages):
                raise InputError(f"{path} announces more pages than it holds; copy or export it again.")
            if name == "NONE" and sum(series.keyframe.databytecounts) >= series.keyframe.nbytes + _row_bytes(series):
                raise InputError(f"{path} holds more than its header announces; copy or export it again.")
        yield tiff


def _stored_bytes(series: Any) -> int:
    """Bytes of a series' pixels; below 8 bits they are packed."""
    bits = series.keyframe.bitspersample
    return series.size * (bits if isinstance(bits, int) else series.dtype.itemsize * 8) // 8


def _row_bytes(series: Any) -> int:
    """Of a page; tiles reach beyond it, and may lie in several planes."""
    page = series.keyframe
    if page.is_tiled:
        return math.prod(page.chunks) * page.dtype.itemsize * len(page.databytecounts)
    return max(4, page.nbytes // page.imagelength)


def _decoded(path: Path, pages: Any) -> NDArray:
    try:
        return pages.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise SetupError(
            f"{path} is compressed in a way that needs the package imagecodecs; `pip install imagecodecs`, or save it "
            "uncompressed or with deflate"
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


def _read_pages(path: Path) -> tuple[NDArray, str, tuple[str, ...]]:
    """Array of all pages, its axes, a letter each as tifffile names them, and what is to be told."""
    with _opened_tiff(path) as tiff:
        series = [one for one in tiff.series if not one.keyframe.is_reduced]  # without previews
        if len(series) != 1:
            raise InputError(f"{path} holds {len(series)} pictures of different sizes; save each as its own file.")
        page = series[0].keyframe
        notices = []
        if int(page.tags.valueof("Orientation", 1)) != 1:
            notices.append(f"{path} carries a rotation, which is not applied: boxes and masks count stored pixels.")
        pixels, axes = _as_shown(path, _decoded(path, series[0]), series[0].axes, page)
        if page.photometric.name == "MINISWHITE" and pixels.dtype.kind not in "bu":
            notices.append(f"{path} states that 0 is white, but {pixels.dtype} has no black; values are as stored.")
        return pixels, axes, tuple(notices)


def _as_shown(path: Path, pixels: NDArray, axes: str, page: Any) -> tuple[NDArray, str]:
    """Grey where 0 is black, or RGB, of what is stored."""
    colours = page.photometric.name
    if colours == "PALETTE":
        return _by_colour_map(page.colormap)[:, pixels].transpose([*range(1, pixels.ndim + 1), 0]), axes + "S"
    if colours == "SEPARATED" and pixels.dtype == np.uint8 and axes[-1:] == "S" and pixels.shape[-1] == 4:
        import PIL.Image

        pages = pixels.reshape(-1, *pixels.shape[-3:])
        rgb = [np.asarray(PIL.Image.fromarray(one, "CMYK").convert("RGB")) for one in pages]
        return np.stack(rgb).reshape(*pixels.shape[:-1], 3), axes
    # tifffile gives JPEG's YCbCr as RGB
    is_jpeg = colours == "YCBCR" and "JPEG" in page.compression.name
    if colours not in ("MINISBLACK", "MINISWHITE", "RGB") and not is_jpeg:
        raise InputError(f"{path} holds colours as {colours}; expected grey, RGB, CMYK of 8 bits or a palette.")
    if colours == "MINISWHITE" and pixels.dtype.kind in "bu":
        pixels = ~pixels if pixels.dtype == bool else 2**page.bitspersample - 1 - pixels
    return (pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels), axes


def _by_colour_map(table: NDArray) -> NDArray[np.uint8]:
    """(3, values); stored in 16 bits, by some writers in 8."""
    return (table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8)


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
