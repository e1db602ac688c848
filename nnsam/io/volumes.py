"""Volumes and 2D images with a geometry: NIfTI, NRRD, MHA, GIPL, DICOM, read by SimpleITK."""

import gzip
import math
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.image import Geometry, Image, Kind, decoding, make_image, make_labels

_NIFTI = (".nii", ".nii.gz")
_CHUNK = 1 << 22


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its ending."""
    return path.name.lower().endswith(_NIFTI)


def check_nifti_length(path: Path) -> None:
    """Compares the length of a NIfTI file with what its header announces.

    Layout of the headers: https://nifti.nimh.nih.gov/nifti-1 and nifti-2.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or -2 of either byte order.

    Raises:
        InputError: shorter than announced, or no NIfTI header.
        OSError, EOFError, zlib.error: the compressed stream is damaged.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        expected = _announced_length(path, file.read(540))
        file.seek(0)
        length = 0
        while length < expected and (chunk := file.read(min(_CHUNK, expected - length))):
            length += len(chunk)
        file.read(1)  # beyond the last voxel stands gzip's checksum; without it ITK leaves the last voxels to chance
    if length < expected:
        raise InputError(f"{path} is cut off: it holds {length} bytes, its header announces {expected}.")


def _announced_length(path: Path, header: bytes) -> int:
    for order in "<>":
        for size, dims, bits, offset in ((348, "40s8h", "72sh", "108sf"), (540, "16s8q", "14sh", "168sq")):
            if len(header) < size or struct.unpack_from(order + "i", header)[0] != size:
                continue
            count, *sides = struct.unpack_from(order + dims, header)[1:]
            voxels = math.prod(max(1, side) for side in sides[: max(0, count)])
            bits_per_voxel = struct.unpack_from(order + bits, header)[1]
            return int(struct.unpack_from(order + offset, header)[1]) + voxels * max(0, bits_per_voxel) // 8
    raise InputError(f"{path} is not a NIfTI file, or it is cut off.")


_quiet_lock = threading.Lock()
_quiet_users = 0
_display_before = True


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keeps ITK from printing while at least one thread is in the block; the switch is one for the whole process.

    What matters of what it prints is raised or warned about here.
    """
    import SimpleITK as sitk

    global _quiet_users, _display_before
    with _quiet_lock:
        if _quiet_users == 0:
            _display_before = sitk.ProcessObject.GetGlobalWarningDisplay()
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                sitk.ProcessObject.SetGlobalWarningDisplay(_display_before)


def itk_geometry(source: Any) -> Geometry:
    """The geometry of an image of SimpleITK, or of what its reader found in a header."""
    return Geometry(source.GetSpacing(), source.GetOrigin(), source.GetDirection())


def itk_image(pixels: NDArray, geometry: Geometry | None, is_colour: bool = False) -> Any:
    """An image of SimpleITK from an array; spacing 1 and origin 0, ITK's own, where there is no geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(pixels, isVector=is_colour)
    if geometry is not None:
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
    return image


def read_volume(path: Path) -> Image:
    """Reads one file: NIfTI, NRRD, MHA, or a single DICOM file.

    Raises:
        InputError: unreadable, with a time axis, channels that are no colours, or see `make_image`.
    """
    return _to_image(path, _read(path), "dicom" if path.name.lower().endswith(".dcm") else "volume")


def read_volume_labels(path: Path) -> Image:
    """Reads a label map with a geometry, of whatever 2 or 3 dimensions the file has.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    volume = _read(path)
    if volume.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path} is not a label map: it has {volume.GetNumberOfComponentsPerPixel()} values per voxel."
        )
    import SimpleITK as sitk

    return make_labels(path, sitk.GetArrayFromImage(volume), kind="volume", geometry=itk_geometry(volume))


def read_volume_header(path: Path) -> tuple[tuple[int, ...], Geometry]:
    """Number of pixels along x, y[, z] and the geometry, without the pixels.

    Raises:
        InputError: cut off.
        Exception: whatever ITK raises about a damaged file.
    """
    import SimpleITK as sitk

    if is_nifti(path):
        check_nifti_length(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        reader.ReadImageInformation()
    return reader.GetSize(), itk_geometry(reader)


def _read(path: Path) -> Any:
    import SimpleITK as sitk

    with decoding(path), quiet_itk():
        if is_nifti(path):
            check_nifti_length(path)
        return sitk.ReadImage(str(path))


# ITK leaves it in the image when slices of a series are missing or not evenly spaced, in mm.
_UNEVEN_SLICES = "ITK_non_uniform_sampling_deviation"


def read_dicom_series(folder: Path) -> Image:
    """Reads a folder that holds one DICOM series, slices in the order of their positions.

    Raises:
        InputError: no series or several, a DICOM file that is damaged or no image, slices of different sizes, or see
            `read_volume`.

    Warns:
        NnsamWarning: slices are missing or not evenly spaced, so that the spacing is not that of all slices.
    """
    import SimpleITK as sitk

    series = dicom_series(folder)
    if len(series) != 1:
        listed = ", ".join(f"{name} ({len(files)} files)" for name, files in series.items())
        found = f"{len(series)} DICOM series: {listed}" if series else "no DICOM series"
        raise InputError(f"{folder} holds {found}; expected one, so give each series a folder of its own.")
    files = next(iter(series.values()))
    _check_no_file_is_left(folder, files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    with decoding(folder), quiet_itk():
        volume = reader.Execute()
        if volume.HasMetaDataKey(_UNEVEN_SLICES):
            warnings.warn(
                f"{folder}: slices are missing or not evenly spaced; the mask file has one spacing for all.",
                NnsamWarning,
                stacklevel=2,
            )
        return _to_image(folder, volume, "series")


def dicom_series(folder: Path) -> dict[str, tuple[str, ...]]:
    """Maps the identifiers of the DICOM series right in a folder to their files in order; empty where there is none."""
    import SimpleITK as sitk

    with quiet_itk():
        names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        return {name: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name) for name in names}


def _check_no_file_is_left(folder: Path, files: Iterable[str]) -> None:
    """GDCM leaves out files that it cannot read; a slice less would go unnoticed."""
    used = {Path(file).name for file in files}
    for path in sorted(folder.iterdir()):
        if path.name in used or path.name == "DICOMDIR" or not path.is_file():
            continue
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        if is_dicom or path.name.lower().endswith(".dcm"):
            raise InputError(f"{path} is damaged, or no image of the series beside it; replace or remove it.")


def _to_image(source: Path, volume: Any, kind: Kind) -> Image:
    import SimpleITK as sitk

    if volume.GetDimension() == 4 and volume.GetSize()[3] == 1:
        volume = volume[:, :, :, 0]
    if volume.GetDimension() not in (2, 3):
        raise InputError(
            f"{source} has {volume.GetDimension()} dimensions, size {volume.GetSize()}; expected 2 or 3, so save each "
            "time point or channel as its own file."
        )
    components = volume.GetNumberOfComponentsPerPixel()
    if components not in (1, 3, 4):
        raise InputError(f"{source} has {components} values per pixel; expected grey, RGB or RGBA.")
    pixels = sitk.GetArrayFromImage(volume)
    return make_image(
        source,
        pixels if components == 1 or np.iscomplexobj(pixels) else pixels[..., :3],
        volume.GetDimension(),
        kind=kind,
        geometry=itk_geometry(volume),
    )
