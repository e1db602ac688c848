"""NIfTI volumes read by nibabel, as stored or turned to the orientation RAS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import Geometry, check_geometry
from nnsam.io.nifti import is_nifti, load_nifti, write_nifti
from nnsam.io.nnunet_readers.base import ImageFile, ImageIO


class NibabelIO(ImageIO):
    """NIfTI volumes as they are stored; their properties hold the `affine`, (4, 4), and nibabel's `header`."""

    def _read(self, path: Path) -> ImageFile:
        volume = _load(path)
        return _image_file(volume, {"affine": volume.affine, "header": volume.header})

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        write_nifti(draft, labels, properties["header"])


class NibabelIOWithReorient(ImageIO):
    """NIfTI volumes turned to RAS for the model, label maps turned back.

    Their properties hold the `affine` of the file and the `turned_affine` of the image, (4, 4), and nibabel's `header`
    of the file.
    """

    def _read(self, path: Path) -> ImageFile:
        from nibabel.orientations import io_orientation

        volume = _load(path)
        turned = volume.as_reoriented(io_orientation(volume.affine))
        return _image_file(turned, {"affine": volume.affine, "turned_affine": turned.affine, "header": volume.header})

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        import nibabel
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        turned = nibabel.Nifti1Image(labels.transpose(2, 1, 0), properties["turned_affine"])
        back = ornt_transform(axcodes2ornt("RAS"), io_orientation(properties["affine"]))
        write_nifti(draft, np.asanyarray(turned.as_reoriented(back).dataobj).T, properties["header"])


def _load(path: Path) -> Any:
    if not is_nifti(path):
        raise InputError(f"{path} is no NIfTI file by its ending; this model reads .nii.gz or .nii.")
    volume = load_nifti(path)
    if volume.ndim != 3:
        raise InputError(
            f"{path} has {volume.ndim} dimensions, size {volume.shape}; expected 3, so save each time point or channel "
            "as its own file."
        )
    # Unit steps, since nibabel's affine holds the pixel sizes; the header's own have been checked.
    affine = volume.affine
    check_geometry(path, Geometry((1.0,) * 3, tuple(affine[:3, 3]), tuple(affine[:3, :3].ravel())))
    kind = volume.get_data_dtype()
    if kind.kind not in "buif":
        raise InputError(f"{path} holds {kind} per voxel; expected one real number.")
    return volume


def _image_file(volume: Any, affines: Mapping[str, NDArray]) -> ImageFile:
    """Content of a nibabel image; its arrays are (x, y, z)."""
    spacing = tuple(float(size) for size in volume.header.get_zooms()[::-1])
    pixels = volume.get_fdata(caching="unchanged").transpose(2, 1, 0)[None]
    return ImageFile(pixels, spacing, affines, spacing, {"affine": volume.affine})
