"""Pictures (PNG, BMP, TIFF of one page) and stacks of TIFF pages, read by Pillow and tifffile."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.nnunet_readers.base import ImageFile, ImageIO
from nnsam.io.pictures import stored_pixels, tiff_pages, write_tiff_pages
from nnsam.support.files import read_json, write_json

_TIFF = (".tif", ".tiff")
_LOSSY = (".jpg", ".jpeg", ".webp", ".gif")
# nnU-Net's stand-in for the distance between slices of a picture, larger than any pixel.
_SPACING = (999, 1, 1)


class NaturalImage2DIO(ImageIO):
    """Grey, RGB and RGBA pictures; a file in colour holds 3 or 4 channels of the image.

    nnU-Net reads through scikit-image, which reads through imageio (Pillow) and tifffile; the pixels are the same.
    """

    def _read(self, path: Path) -> ImageFile:
        pixels = _read_channels(path) if path.name.lower().endswith(_TIFF) else stored_pixels(path)
        if pixels.ndim == 2:
            return ImageFile(pixels[None, None], _SPACING)
        if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
            raise InputError(
                f"{path} has the shape {pixels.shape}; expected grey (y, x), RGB (y, x, 3) or RGBA (y, x, 4), so save "
                "each page or channel as its own file."
            )
        return ImageFile(pixels.transpose(2, 0, 1)[:, None], _SPACING)

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        name = path.name.lower()
        if name.endswith(_LOSSY):
            raise InputError(f"{path} cannot hold labels, since its format alters pixels; write a .png.")
        if name.endswith(_TIFF):
            write_tiff_pages(draft, labels[0], compression=None)
            return
        import PIL.Image

        if path.suffix.lower() not in PIL.Image.registered_extensions():
            raise InputError(f"{path} has an ending of no picture; write a .png.")
        if name.endswith(".bmp") and labels.dtype != np.uint8:
            raise InputError(f"{path} cannot hold the label {labels.max()}, BMP has 8 bits; write a .png.")
        PIL.Image.fromarray(labels[0]).save(draft)


def _read_channels(path: Path) -> NDArray:
    """(y, x) or (y, x, channels); three or four planes are channels, as scikit-image has it."""
    pixels = tiff_pages(path)
    if pixels.ndim > 2 and pixels.shape[-1] not in (3, 4) and pixels.shape[-3] in (3, 4):
        return np.moveaxis(pixels, -3, -1)
    return pixels


class Tiff3DIO(ImageIO):
    """TIFF of several pages; the pixel size of `case_0000.tif` is under "spacing" (z, y, x) in `case.json`.

    Without that file the spacing is 1, with a warning.
    """

    def read_images(self, paths: Sequence[str | Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reads the files of one image; see `ImageIO.read_images`.

        Raises:
            InputError: also where the json file holds no spacing.

        Warns:
            NnsamWarning: there is no json file.
        """
        image, properties = super().read_images(paths)
        return image, {**properties, "spacing": _read_spacing(Path(paths[0]))}

    def _read(self, path: Path) -> ImageFile:
        if path.suffix.lower() not in _TIFF:
            raise InputError(f"{path} is no TIFF by its ending; this model reads {' or '.join(_TIFF)}.")
        pixels = tiff_pages(path)
        if pixels.ndim != 3:
            raise InputError(
                f"{path} has {pixels.ndim} dimensions, shape {pixels.shape}; expected one stack of grey pages."
            )
        return ImageFile(pixels[None], (1, 1, 1))

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        write_tiff_pages(draft, labels, compression="zlib")
        # Before the label map takes its name, so that a label map without its spacing never exists.
        spacing = [float(value) for value in properties["spacing"]]
        write_json(path.with_suffix(".json"), {"spacing": spacing}, indent=4)


def _read_spacing(path: Path) -> tuple[float, ...]:
    side_file = path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")
    if not side_file.is_file():
        warnings.warn(
            f"{side_file} does not exist, so that {path.name} is taken to have pixels of 1 x 1 x 1 mm.",
            NnsamWarning,
            stacklevel=3,
        )
        return (1, 1, 1)
    content = read_json(side_file, 'expected {"spacing": [z, y, x]}.')
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(map(_is_length, spacing)):
        raise InputError(
            f"{side_file} holds the spacing {spacing}; expected three numbers above 0, the pixel size of z, y, x in mm."
        )
    return tuple(spacing)


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
