"""Volumes and pictures with a geometry (NIfTI, NRRD, MHA, GIPL), read by SimpleITK."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import Geometry, check_geometry
from nnsam.io.nifti import (
    check_nifti_length,
    has_nan_or_infinity,
    is_gzipped,
    is_nifti,
    load_nifti_header,
    write_nifti,
)
from nnsam.io.nnunet_readers.base import ImageFile, ImageIO
from nnsam.io.volumes import itk_geometry, itk_image, open_itk, quiet_itk

# Length of the header of GIPL, whose data is not compressed.
_GIPL_HEADER = 256
# nnU-Net's stand-in for the distance between slices of a picture, in pixels.
_SLICE_DISTANCE = 999


class SimpleITKIO(ImageIO):
    """Files of 2 or 3 dimensions are one channel, the fourth dimension of a file is its channels.

    The properties hold SimpleITK's "geometry": spacing, origin and direction in the order x, y, z; and nibabel's
    "header" of a NIfTI file, so that its label map keeps both forms, which nnU-Net overwrites. nnU-Net has no label
    maps for files of 4 dimensions; here they are volumes in the geometry of the first three.
    """

    def _read(self, path: Path) -> ImageFile:
        volume = _load(path)
        return _image_file(path, volume)

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        _save(draft, path, _placed(labels, properties["geometry"]), properties.get("header"))


class SimpleITKIOWithReorient(ImageIO):
    """Volumes turned to RAS for the model, label maps turned back.

    The properties hold the "geometry" of the turned volume and the "orientation" of the file, three letters.
    nnU-Net stores labels above 255 modulo 256; here they are kept.
    """

    def _read(self, path: Path) -> ImageFile:
        import SimpleITK as sitk

        volume = _load(path)
        if volume.GetDimension() != 3:
            raise InputError(f"{path} has {volume.GetDimension()} dimensions; this model reads volumes, of 3.")
        orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(volume.GetDirection())
        return _image_file(path, sitk.DICOMOrient(volume, "RAS"), orientation=orientation)

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        import SimpleITK as sitk

        if labels.max(initial=0) < 256:
            labels = labels.astype(np.uint8)
        turned_back = sitk.DICOMOrient(_placed(labels, properties["geometry"]), properties["orientation"])
        _save(draft, path, turned_back, properties.get("header"))


def _load(path: Path) -> Any:
    if is_nifti(path):
        _check_nifti(path)
    try:
        with quiet_itk():
            volume = open_itk(path).Execute()
    except RuntimeError as error:
        raise InputError(_complaint(path, str(error))) from error
    if volume.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path} holds {volume.GetNumberOfComponentsPerPixel()} values per pixel; expected one, so save each "
            "channel as its own file."
        )
    return volume


def _check_nifti(path: Path) -> None:
    """Checks what ITK does not tell: it takes nan for 0, and some of a file that is cut off."""
    if path.name.lower().endswith(".nii") and is_gzipped(path):
        raise InputError(f"{path} is compressed by gzip; call it {path.name}.gz.")
    if not has_nan_or_infinity(path):
        return
    raise InputError(f"{path} holds values that are nan or infinite; replace them by the background's value.")


def _complaint(path: Path, message: str) -> str:
    if "orthonormal" in message:
        return (
            f"{path} has axes that are not perpendicular to each other (its direction cosines are not orthonormal), "
            "which SimpleITK does not read; resample it to a grid with perpendicular axes, or mend its header."
        )
    # ITK's reasons are those of the operating system, and often misleading ("No such file").
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith("Reason:")]
    return (
        f"{path} is damaged, cut off, or no image that SimpleITK reads ({lines[-1].rstrip('.')}); copy or export it "
        "again."
    )


def _image_file(path: Path, volume: Any, **properties: Any) -> ImageFile:
    import SimpleITK as sitk

    spacing = volume.GetSpacing()
    pixels = sitk.GetArrayFromImage(volume)
    if pixels.ndim == 2:
        pixels, array_spacing = pixels[None, None], (max(spacing) * _SLICE_DISTANCE, *spacing[::-1])
    elif pixels.ndim == 3:
        pixels, array_spacing = pixels[None], spacing[::-1]
    elif pixels.ndim == 4:
        array_spacing = spacing[::-1][1:]
    else:
        raise InputError(f"{path} has {pixels.ndim} dimensions, size {volume.GetSize()}; expected 2, 3 or 4.")
    geometry = itk_geometry(volume)
    check_geometry(path, geometry)
    if is_nifti(path):
        properties["header"] = load_nifti_header(path)
    return ImageFile(
        pixels,
        tuple(abs(size) for size in array_spacing),
        {"geometry": geometry, **properties},
        spacing,
        {"origin": geometry.origin, "direction": geometry.direction},
    )


def _placed(labels: NDArray[np.integer], geometry: Geometry) -> Any:
    """SimpleITK image of (z, y, x) labels in the geometry of the image that was read."""
    kept = min(geometry.dimensions, 3)
    direction = np.reshape(geometry.direction, (geometry.dimensions, geometry.dimensions))[:kept, :kept]
    place = Geometry(geometry.spacing[:kept], geometry.origin[:kept], tuple(direction.ravel().tolist()))
    return itk_image(labels[0] if kept == 2 else labels, place)


def _save(draft: Path, path: Path, volume: Any, header: Any = None) -> None:
    import SimpleITK as sitk

    if header is not None and is_nifti(path):
        write_nifti(draft, sitk.GetArrayFromImage(volume), header)
        return
    with quiet_itk():
        sitk.WriteImage(volume, str(draft), True)
    # On a full disk ITK reports nothing for these two formats, as it does for the others.
    try:
        if is_nifti(draft):
            check_nifti_length(draft)
        elif draft.name.lower().endswith(".gipl"):
            _check_gipl_length(draft, volume)
    except (InputError, EOFError) as error:
        raise InputError(f"{path} cannot be written completely; is the disk full?") from error


def _check_gipl_length(path: Path, volume: Any) -> None:
    """ITK reads a GIPL file that is cut off without a word, the rest as arbitrary values."""
    expected = _GIPL_HEADER + volume.GetNumberOfPixels() * volume.GetSizeOfPixelComponent()
    if path.stat().st_size < expected:
        raise InputError(f"{path} is cut off: it holds {path.stat().st_size} bytes, its header announces {expected}.")
