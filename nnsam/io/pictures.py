"""Pictures to segment: PNG, JPEG, BMP and TIFF of any pixel type; a TIFF of several pages is a volume."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.image import InputImage, decoding, make_input_image

# Pillow's modes -> the mode with the same content that has a meaning here: alpha dropped, colours as RGB.
_MODES = {"RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_MODES |= {"P": "RGB", "PA": "RGB", "LA": "L", "La": "L", "1": "L"}
_EXIF_ORIENTATION = 0x0112


def read_picture(path: Path) -> InputImage:
    """Reads a PNG, JPEG or BMP in the order in which its pixels are stored.

    16-bit grey stays 16-bit; 16-bit colour is reduced to 8 bits (by Pillow). Alpha is dropped, palettes and CMYK
    become RGB.

    Raises:
        InputError: unreadable, or see `make_input_image`.

    Warns:
        NnsamWarning: the file asks viewers to rotate it, which is not done here, as nnU-Net does not either.
    """
    from PIL import Image

    with decoding(path), Image.open(path) as picture:
        if picture.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            warnings.warn(
                f"{path} carries an EXIF rotation, which is not applied: boxes and masks count stored pixels.",
                NnsamWarning,
                stacklevel=2,
            )
        pixels = _decode(picture)
    return make_input_image(path, pixels, 2)


def read_tiff(path: Path) -> InputImage:
    """Reads a TIFF: one page is a picture, several pages of one size are a volume without spacing.

    Raises:
        InputError: unreadable, pages of different sizes, more axes than a volume has, channels that are no colours.
    """
    with decoding(path):
        pixels, axes = _read_pages(path)
        pixels, dimensions = _arrange(path, pixels, axes)
    return make_input_image(path, pixels, dimensions)


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
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
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
