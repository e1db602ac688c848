"""Volumes and 2D images with a geometry: NRRD, MHA, GIPL, read by SimpleITK, and NIfTI, read by nibabel."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import Geometry, Image, check_geometry, decoding, make_image, make_labels
from nnsam.io.itk_headers import check_itk_header, itk_reader, states_spacing
from nnsam.io.limits import check_voxels
from nnsam.io.nifti import is_nifti, read_nifti, read_nifti_header, read_nifti_labels

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
    """Reads one file: NIfTI, NRRD, MHA.

    Raises:
        InputError: unreadable, with a time axis, channels that are no colours, or see `make_image`.
    """
    if is_nifti(path):
        with decoding(path):
            return read_nifti(path)
    return _to_image(path, _read(path))


def read_volume_labels(path: Path) -> Image:
    """Reads a label map with a geometry, of whatever 2 or 3 dimensions the file has.

    Raises:
        InputError: unreadable, in colour, or see `make_labels`.
    """
    if is_nifti(path):
        with decoding(path):
            return read_nifti_labels(path)
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
    if is_nifti(path):
        return read_nifti_header(path)
    reader = open_itk(path)
    geometry = itk_geometry(reader)
    check_geometry(path, geometry)
    return reader.GetSize(), geometry


def open_itk(path: Path) -> Any:
    """SimpleITK's reader of a file, its header read and checked; `Execute`, in `quiet_itk`, gives the image.

    Raises:
        InputError: see `nnsam.io.itk_headers`; or more values than are allowed.
        RuntimeError: whatever ITK raises about a damaged header.
    """
    import SimpleITK as sitk

    if not itk_reader(path):  # which ITK would look for by trying them all, some of which take gigabytes
        raise InputError(f"{path} is no image by its ending; expected NIfTI, NRRD, MHA, GIPL or a picture.")
    check_itk_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(itk_reader(path))
    with quiet_itk():
        reader.ReadImageInformation()
    check_voxels(path, (*reader.GetSize(), reader.GetNumberOfComponents()))
    return reader


def _read(path: Path) -> Any:
    with decoding(path), quiet_itk():
        return open_itk(path).Execute()


def _to_image(source: Path, volume: Any) -> Image:
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
    notice = f"{source} states no size of its pixels; 1 mm is taken, as other programs do."
    return make_image(
        source,
        pixels if components == 1 or np.iscomplexobj(pixels) else pixels[..., :3],
        volume.GetDimension(),
        kind="volume",
        geometry=itk_geometry(volume),
        notices=() if states_spacing(source) else (notice,),
    )
