"""Volumes and 2D images with a geometry: NIfTI, NRRD, MHA, DICOM, read by SimpleITK."""

import gzip
import math
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.image import InputImage, decoding, make_input_image

_CHUNK = 1 << 22


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


# ITK leaves it in the image when slices of a series are missing or not evenly spaced, in mm.
_UNEVEN_SLICES = "ITK_non_uniform_sampling_deviation"


def read_volume(path: Path) -> InputImage:
    """Reads one file: NIfTI, NRRD, MHA, or a single DICOM file.

    Raises:
        InputError: unreadable, with a time axis, channels that are no colours, or see `make_input_image`.
    """
    import SimpleITK as sitk

    with decoding(path), _quiet_itk():
        if path.name.lower().endswith((".nii", ".nii.gz")):
            check_nifti_length(path)
        return _to_input_image(path, sitk.ReadImage(str(path)))


def read_dicom_series(folder: Path) -> InputImage:
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
    with decoding(folder), _quiet_itk():
        volume = reader.Execute()
        if volume.HasMetaDataKey(_UNEVEN_SLICES):
            warnings.warn(
                f"{folder}: slices are missing or not evenly spaced; the mask file has the spacing of the first ones.",
                NnsamWarning,
                stacklevel=2,
            )
        return _to_input_image(folder, volume)


def dicom_series(folder: Path) -> dict[str, tuple[str, ...]]:
    """Maps the identifiers of the DICOM series right in a folder to their files in order; empty where there is none."""
    import SimpleITK as sitk

    with _quiet_itk():
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


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keeps ITK from printing; what matters of it is raised or warned about here."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _to_input_image(source: Path, volume: Any) -> InputImage:
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
    return make_input_image(
        source,
        pixels if components == 1 or np.iscomplexobj(pixels) else pixels[..., :3],
        volume.GetDimension(),
        spacing=volume.GetSpacing()[::-1],
        geometry={
            "spacing": volume.GetSpacing(),
            "origin": volume.GetOrigin(),
            "direction": volume.GetDirection(),
        },
    )
