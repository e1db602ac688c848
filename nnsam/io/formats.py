"""The formats of image files by their endings, and how files that belong to an image are called."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnsam.errors import InputError
from nnsam.io.image import Kind
from nnsam.io.itk_headers import pixel_files


@dataclass(frozen=True)
class Format:
    """What files of one ending hold, and what is done with them.

    Attributes:
        ending: lower case, with the dot.
        kind: chooses reader and writer, see `nnsam.io.reading` and `nnsam.io.writing`.
        label_ending: of the label map that belongs to such an image: its own, or that of the nearest format that holds
            labels and is one file.
        holds_images: found and read as an image to be segmented.
        holds_labels: found and read as a label map.
    """

    ending: str
    kind: Kind
    label_ending: str
    holds_images: bool = True
    holds_labels: bool = True

    @property
    def is_written(self) -> bool:
        """Whether label maps are written in this format."""
        return self.label_ending == self.ending or self.ending == SEG_ENDING


# DICOM SEG; images of DICOM have label maps of another format unless this is asked for.
SEG_ENDING = ".dcm"

# .nhdr and .mhd keep their pixels in a second file, so that label maps of them are written as the one-file formats.
FORMATS: dict[str, Format] = {
    row.ending: row
    for row in (
        Format(".nii.gz", "volume", ".nii.gz"),
        Format(".png", "picture", ".png"),
        Format(".jpg", "picture", ".png", holds_labels=False),
        Format(".jpeg", "picture", ".png", holds_labels=False),
        Format(".bmp", "picture", ".png"),
        Format(".tif", "tiff", ".tif"),
        Format(".tiff", "tiff", ".tiff"),
        Format(".nii", "volume", ".nii"),
        Format(".nrrd", "volume", ".nrrd"),
        Format(".nhdr", "volume", ".nrrd", holds_labels=False),
        Format(".mha", "volume", ".mha"),
        Format(".mhd", "volume", ".mha"),
        Format(".npz", "npz", ".npz"),
        Format(".dcm", "dicom", ".nii.gz"),
        Format(".dicom", "dicom", ".nii.gz", holds_labels=False),
        Format(".ima", "dicom", ".nii.gz", holds_labels=False),
        Format(".gipl", "volume", ".nii.gz", holds_images=False),
        Format(".webp", "picture", ".png", holds_images=False, holds_labels=False),
    )
}
NPZ_ENDING = ".npz"
# Kinds of which one file may hold several channels as colours.
COLOURED = ("picture", "tiff")
# Of a folder with a DICOM series, which has no ending.
_SERIES = Format("", "series", FORMATS[".dcm"].label_ending)
_WRITTEN_FOR: dict[Kind, tuple[Kind, ...]] = {
    "picture": ("picture", "tiff"),
    "tiff": ("tiff",),
    "volume": ("volume",),
    "dicom": ("volume", "dicom"),
    "series": ("volume", "dicom"),
    "npz": ("npz",),
}


def format_of(path: str | Path) -> Format | None:
    """The format of a file by its ending, in small or capital letters; None where it is unknown.

    Example:
        >>> format_of("brain.NII.gz").kind, format_of("notes.txt")
        ('volume', None)
    """
    name = Path(path).name.lower()
    return next((row for ending, row in FORMATS.items() if name.endswith(ending)), None)


# First bytes of formats whose readers go by the content, not by the ending.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
)


def format_by_content(path: Path) -> Format | None:
    """The format of a file whose name has no known ending, by how it begins; None where it is none of those known.

    Only formats are recognised whose readers do not look at the ending.
    """
    with path.open("rb") as file:
        start = file.read(8)
    return next((FORMATS[ending] for signature, ending in _SIGNATURES if start.startswith(signature)), None)


def without_ending(name: str, ending: str) -> str:
    """A file's name without an ending, in small or capital letters, if it has it.

    Example:
        >>> without_ending("a.NII.gz", ".nii.gz"), without_ending("IM0001", ".dcm")
        ('a', 'IM0001')
    """
    has_it = ending and name.lower().endswith(ending) and len(name) > len(ending)
    return name[: len(name) - len(ending)] if has_it else name


def kind_of(path: str | Path) -> Kind | None:
    """The kind of a file by its ending, see `format_of`."""
    found = format_of(path)
    return None if found is None else found.kind


def endings(rows: Iterable[Format]) -> str:
    """The endings of formats, for messages."""
    return ", ".join(row.ending for row in rows)


def image_formats() -> list[Format]:
    """Formats of single files that are images to be segmented, without DICOM."""
    return [row for row in FORMATS.values() if row.holds_images and row.kind != "dicom"]


def label_formats() -> list[Format]:
    """Formats that label maps are read from."""
    return [row for row in FORMATS.values() if row.holds_labels]


def label_ending(kind: Kind, ending: str) -> str:
    """Returns the ending of the label map for an input: its own, or the nearest format that holds labels.

    Example:
        >>> label_ending("picture", ".jpg"), label_ending("volume", ".mhd"), label_ending("series", "")
        ('.png', '.mha', '.nii.gz')
    """
    return (_SERIES if kind == "series" else FORMATS[ending]).label_ending


def label_endings(kind: Kind) -> list[str]:
    """Endings that the label map of an input may be written with.

    Example:
        >>> label_endings("picture"), label_endings("npz")
        (['.png', '.tif', '.tiff'], ['.npz'])
    """
    return [row.ending for row in FORMATS.values() if row.is_written and row.kind in _WRITTEN_FOR[kind]]


def label_dtype(values: Iterable[int]) -> type[np.uint8] | type[np.uint16]:
    """Returns the smallest type that holds the label values."""
    return np.uint8 if max(values, default=0) <= 255 else np.uint16


def beside(output: Path, ending: str, suffix: str) -> Path:
    """The name of a further file about the same image: `ending` replaced by `suffix`.

    Example:
        >>> beside(Path("out/heart.nii.gz"), ".nii.gz", "_overlay.png").name
        'heart_overlay.png'
    """
    return output.with_name(output.name[: len(output.name) - len(ending)] + suffix)


# Headers whose pixels lie in files of their own: named there, or beside them under the header's own name.
_NAMING, _ANALYZE = (".mhd", ".nhdr"), (".hdr",)


def data_files(header: Path) -> list[Path]:
    """Returns the existing files beside a header of MetaImage, NRRD or Analyze that hold its pixels.

    Raises:
        InputError: a damaged header, or one that names what it may not.

    Example:
        >>> data_files(Path("heart.nii.gz"))
        []
    """
    ending = header.suffix.lower()
    if ending in _NAMING and header.is_file():
        return pixel_files(header)
    image = header.with_suffix(".img")
    return [image] if ending in _ANALYZE and image.is_file() else []


def with_data_files(paths: Iterable[Path]) -> list[Path]:
    """Files, each followed by its `data_files`, as far as its header can be read."""
    found: list[Path] = []
    for path in paths:
        found.append(path)
        with suppress(InputError, OSError):
            found += data_files(path)
    return found
