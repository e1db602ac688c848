"""One way in for every image and every label map."""

from collections.abc import Callable
from pathlib import Path

from nnsam.errors import InputError
from nnsam.io.formats import FORMATS, Format, endings, format_of, image_formats, kind_of, label_formats
from nnsam.io.image import Geometry, Image, Kind, decoding, without_single_slice
from nnsam.io.npz import PREDICTION_KEY, read_npz_image, read_npz_labels
from nnsam.io.pictures import (
    read_picture,
    read_picture_labels,
    read_picture_size,
    read_tiff,
    read_tiff_labels,
    read_tiff_size,
)
from nnsam.io.volumes import read_dicom_series, read_volume, read_volume_header, read_volume_labels

_IMAGES: dict[Kind, Callable[[Path], Image]] = {
    "picture": read_picture,
    "tiff": read_tiff,
    "volume": read_volume,
    "dicom": read_volume,
    "series": read_dicom_series,
    "npz": read_npz_image,
}
_LABELS: dict[Kind, Callable[[Path], Image]] = {
    "picture": read_picture_labels,
    "tiff": read_tiff_labels,
    "volume": read_volume_labels,
}


def read_image(path: str | Path) -> Image:
    """Reads an image to be segmented; its pixels are grey, or RGB with the colours last.

    Args:
        path: a file of a known ending, or the folder of a DICOM series. npz files are the challenge's.

    Raises:
        InputError: absent, of an unknown kind, damaged, with more axes than a volume has, or no real and finite
            numbers.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> import PIL.Image
        >>> PIL.Image.new("L", (8, 6), 7).save(file)
        >>> image = read_image(file)
        >>> image.shape, image.spacing, image.kind
        ((6, 8), None, 'picture')
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_series(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an image.")
    return _IMAGES[image_format(path).kind](path)


def image_format(path: Path) -> Format:
    """The format of a file that is an image to be segmented.

    Raises:
        InputError: the ending is not that of an image.
    """
    found = format_of(path)
    if found is None or not found.holds_images:
        expected = f"{endings(image_formats())}, {FORMATS['.dcm'].ending}, or a DICOM folder"
        raise InputError(f"{path} has an unknown ending; expected {expected}.")
    return found


def read_labels(path: str | Path, key: str = PREDICTION_KEY) -> Image:
    """Reads a label map; a volume of a single slice comes as 2D, since it has no surface across the slice.

    Args:
        path: a file of a known ending.
        key: which array of an npz file, see `read_npz_labels`; other formats have one only.

    Raises:
        InputError: of an unknown kind, unreadable, in colour, with more than 3 dimensions, or with values that are no
            labels.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a label map.")
    found = format_of(path)
    if found is None or not found.holds_labels:
        raise InputError(f"{path} is no label map by its ending; expected {endings(label_formats())}.")
    labels = read_npz_labels(path, key) if found.kind == "npz" else _LABELS[found.kind](path)
    return without_single_slice(labels)


def read_header(path: str | Path) -> tuple[tuple[int, ...], Geometry | None]:
    """What the header of an image file says of its grid; the pixels are not decoded.

    Returns:
        Number of pixels along x, y[, z], of a colour TIFF with the colours in front; and the geometry, None for
        pictures.

    Raises:
        InputError: unreadable.
    """
    path = Path(path)
    with decoding(path, "{path} cannot be read ({reason}); restore it"):
        if kind_of(path) == "tiff":
            return read_tiff_size(path), None
        if kind_of(path) == "picture":
            return read_picture_size(path), None
        return read_volume_header(path)
