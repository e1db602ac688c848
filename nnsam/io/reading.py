"""One way in for every image and every label map."""

import warnings
from collections.abc import Callable
from pathlib import Path

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.dicom.finding import DicomInput, find_dicom
from nnsam.io.dicom.headers import looks_like_dicom
from nnsam.io.dicom.reading import read_dicom, read_headers
from nnsam.io.dicom.segmentation import read_segmentation
from nnsam.io.formats import (
    FORMATS,
    Format,
    endings,
    format_by_content,
    format_of,
    image_formats,
    kind_of,
    label_formats,
)
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
from nnsam.io.volumes import read_volume, read_volume_header, read_volume_labels

_IMAGES: dict[Kind, Callable[[Path], Image]] = {
    "picture": read_picture,
    "tiff": read_tiff,
    "volume": read_volume,
    "dicom": read_dicom,
    "npz": read_npz_image,
}
_LABELS: dict[Kind, Callable[[Path], Image]] = {
    "picture": read_picture_labels,
    "tiff": read_tiff_labels,
    "volume": read_volume_labels,
    "dicom": read_segmentation,
}


def read_image(path: str | Path, series: str | None = None) -> Image:
    """Reads an image to be segmented; its pixels are grey, or RGB with the colours last.

    Args:
        path: a file of a known ending or content, or a folder with one DICOM image. npz files are the challenge's.
        series: Series Instance UID, chooses among several DICOM series of a folder.

    Raises:
        InputError: absent, of an unknown kind, damaged, with more axes than a volume has, or no real and finite
            numbers.
        SetupError: DICOM without the package that reads it.

    Warns:
        NnsamWarning: each of the image's notices.

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
        return _read_dicom_folder(path, series)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an image.")
    return _with_warnings(_IMAGES[image_format(path).kind](path))


def _read_dicom_folder(folder: Path, series: str | None) -> Image:
    found = find_dicom(folder, series)
    if len(found) != 1:
        listed = ", ".join(one.headers[0].path.name if one.is_single_file else str(one.folder) for one in found[:4])
        what = (
            f"{len(found)} DICOM images ({listed}{', ...' if len(found) > 4 else ''})" if found else "no DICOM series"
        )
        raise InputError(f"{folder} holds {what}; expected one.")
    return read_dicom_input(folder, found[0])


def read_dicom_input(source: Path, found: DicomInput) -> Image:
    """Reads what `find_dicom` found.

    Args:
        source: what the image is called in messages.
        found: the files.

    Raises:
        InputError: they make no image, or are damaged.

    Warns:
        NnsamWarning: each of the image's notices.
    """
    if found.refusal:
        raise InputError(found.refusal)
    kind: Kind = "dicom" if found.is_single_file else "series"
    return _with_warnings(read_headers(source, found.headers, kind, found.notices))


def _with_warnings(image: Image) -> Image:
    for notice in image.notices:
        warnings.warn(notice, NnsamWarning, stacklevel=3)
    return image


def image_format(path: Path) -> Format:
    """The format of a file that is an image to be segmented, by its ending; without a known one, by its content.

    Raises:
        InputError: neither is that of an image.
    """
    found = format_of(path)
    if found is None and path.is_file():
        found = FORMATS[".dcm"] if looks_like_dicom(path) else format_by_content(path)
    if found is None or not found.holds_images:
        expected = f"{endings(image_formats())}, {FORMATS['.dcm'].ending}, or a DICOM folder"
        raise InputError(f"{path} has no known content and an unknown ending; expected {expected}.")
    return found


def read_labels(path: str | Path, key: str = PREDICTION_KEY) -> Image:
    """Reads a label map; a volume of a single slice comes as 2D, since it has no surface across the slice.

    Args:
        path: a file of a known ending.
        key: which array of an npz file, see `read_npz_labels`; other formats have one only.

    Raises:
        InputError: of an unknown kind, unreadable, in colour, with more than 3 dimensions, or with values that are no
            labels.

    Warns:
        NnsamWarning: each of the label map's notices.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a label map.")
    found = format_of(path)
    if found is None or not found.holds_labels:
        raise InputError(f"{path} is no label map by its ending; expected {endings(label_formats())}.")
    labels = read_npz_labels(path, key) if found.kind == "npz" else _LABELS[found.kind](path)
    return _with_warnings(without_single_slice(labels))


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
