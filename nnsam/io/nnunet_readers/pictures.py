"""Pictures without a spacing (PNG, BMP, TIFF of one page), read by Pillow and tifffile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.nnunet_readers.base import ImageFile, ImageIO
from nnsam.io.nnunet_readers.tiff_files import read_tiff, write_tiff

_TIFF = (".tif", ".tiff")
_LOSSY = (".jpg", ".jpeg", ".webp", ".gif")
# nnU-Net's stand-in for the distance between slices of a picture, larger than any pixel.
_SPACING = (999, 1, 1)


class NaturalImage2DIO(ImageIO):
    """Grey, RGB and RGBA pictures; a file in colour holds 3 or 4 channels of the image.

    nnU-Net reads through scikit-image, which reads through imageio (Pillow) and tifffile; the pixels are the same.
    """

    def _read(self, path: Path) -> ImageFile:
        pixels = _read_channels(path) if path.name.lower().endswith(_TIFF) else _read_picture(path)
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
            write_tiff(draft, labels[0], compression=None)
            return
        from PIL import Image

        if path.suffix.lower() not in Image.registered_extensions():
            raise InputError(f"{path} has an ending of no picture; write a .png.")
        if name.endswith(".bmp") and labels.dtype != np.uint8:
            raise InputError(f"{path} cannot hold the label {labels.max()}, BMP has 8 bits; write a .png.")
        Image.fromarray(labels[0]).save(draft)


def _read_picture(path: Path) -> NDArray:
    """(y, x) or (y, x, channels) as stored: no EXIF rotation, palettes as colours, alpha kept."""
    from PIL import Image

    with Image.open(path) as picture:
        if getattr(picture, "is_animated", False):
            raise InputError(f"{path} holds {picture.n_frames} pictures; save each as its own file.")
        if picture.mode == "P":
            return np.asarray(picture.convert(picture.palette.mode))
        return np.asarray(picture)


def _read_channels(path: Path) -> NDArray:
    """(y, x) or (y, x, channels); three or four planes are channels, as scikit-image has it."""
    pixels = read_tiff(path)
    if pixels.ndim > 2 and pixels.shape[-1] not in (3, 4) and pixels.shape[-3] in (3, 4):
        return np.moveaxis(pixels, -3, -1)
    return pixels
