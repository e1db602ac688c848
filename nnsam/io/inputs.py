"""Which files are images to segment, and which reader each needs."""

from dataclasses import dataclass
from pathlib import Path

from nnsam.errors import InputError
from nnsam.io.image import InputImage
from nnsam.io.npz import read_npz_image
from nnsam.io.pictures import read_picture, read_tiff
from nnsam.io.volumes import dicom_series, read_dicom_series, read_volume

# ending -> kind; longer endings first
ENDINGS = {
    ".nii.gz": "volume",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), "picture"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys((".nii", ".nrrd", ".nhdr", ".mha", ".mhd"), "volume"),
    ".npz": "npz",
}
DICOM_ENDING = ".dcm"
_READERS = {
    "picture": read_picture,
    "tiff": read_tiff,
    "volume": read_volume,
    "dicom": read_volume,
    "series": read_dicom_series,
    "npz": read_npz_image,
}


@dataclass(frozen=True)
class InputFile:
    """One image to segment.

    Attributes:
        path: a file, or the folder of a DICOM series.
        kind: picture (PNG, JPEG, BMP), tiff, volume (NIfTI, NRRD, MHA), dicom (one file), series (folder) or npz.
        ending: as in the name, lower case; empty for a folder.
    """

    path: Path
    kind: str
    ending: str

    @property
    def case(self) -> str:
        """Name without ending and without the _0000 of nnU-Net's image files, which its label files do not have."""
        name = self.path.absolute().name
        name = name[: len(name) - len(self.ending)]
        return name if self.kind == "npz" else name.removesuffix("_0000") or name

    def read(self) -> InputImage:
        """Reads the image; see the readers for what raises InputError."""
        return _READERS[self.kind](self.path)


def find_input_files(path: str | Path) -> list[InputFile]:
    """Lists the images at a path, sorted by name; files of other kinds in a folder are left alone.

    Args:
        path: one file; a folder with a DICOM series; a folder of files, each one case; or a folder of folders with a
            DICOM series each.

    Raises:
        InputError: nothing there, no image among it, or DICOM files beside others.
    """
    path = Path(path)
    if path.is_file():
        return [_known_file(path)]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected an image or a folder of images.")
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [InputFile(entry, kind, end) for entry in entries for kind, end in _kind(entry) if kind != "dicom"]
    dicom = [entry for entry in entries if entry.is_file() and entry.name.lower().endswith(DICOM_ENDING)]
    if files and dicom:
        raise InputError(f"{path} holds DICOM files ({dicom[0].name}) beside {files[0].path.name}; separate them.")
    if files:
        return files
    if dicom or (any(entry.is_file() for entry in entries) and dicom_series(path)):
        return [InputFile(path, "series", "")]
    folders = [InputFile(entry, "series", "") for entry in entries if entry.is_dir() and dicom_series(entry)]
    if not folders:
        raise InputError(f"{path} holds no images (files ending with {', '.join(ENDINGS)}, or a DICOM series).")
    return folders


def _kind(path: Path) -> list[tuple[str, str]]:
    """[(kind, ending)] of a file with a known ending, else []."""
    name = path.name.lower()
    endings = {**ENDINGS, DICOM_ENDING: "dicom"}
    return [(kind, ending) for ending, kind in endings.items() if name.endswith(ending) and path.is_file()][:1]


def _known_file(path: Path) -> InputFile:
    for kind, ending in _kind(path):
        return InputFile(path, kind, ending)
    raise InputError(f"{path} has an unknown ending; expected {', '.join(ENDINGS)}, {DICOM_ENDING}, or a DICOM folder.")
