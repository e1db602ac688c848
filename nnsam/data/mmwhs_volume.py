"""Reads an image with its label map and brings both into one orientation."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.input_image import InputImage
from nnsam.data.mmwhs_files import Pair
from nnsam.data.volume_files import read_volume
from nnsam.errors import InputError

# How far apart, in units of the smallest voxel side, corresponding corners of image and label may lie. Headers that
# went through other software differ in the last digits; half a voxel would move a boundary.
TOLERANCE = 0.1

_OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))


@dataclass(frozen=True)
class Oriented:
    """A volume whose axes are the patient's, as near as its own axes come to them; nothing is interpolated.

    Attributes:
        array: (Z, Y, X), a view of the file's array.
        spacing_xyz: in mm, x first.
    """

    array: NDArray
    spacing_xyz: tuple[float, float, float]


def read_pair(pair: Pair, *, trust_image: bool = False) -> tuple[InputImage, InputImage | None]:
    """Reads image and label; both have the same grid.

    Args:
        pair: the files.
        trust_image: takes the label's array as it is, whatever its header says, as long as the sizes agree.

    Raises:
        InputError: a file cannot be read, or the grids differ: size, or corners further apart than `TOLERANCE`.
    """
    with pair.image.open() as path:
        image = read_volume(path)
    if pair.label is None:
        return image, None
    with pair.label.open() as path:
        label = read_volume(path)
    _check_same_grid(pair, image, label, trust_image)
    return image, label


def _check_same_grid(pair: Pair, image: InputImage, label: InputImage, trust_image: bool) -> None:
    assert pair.label is not None
    if label.shape != image.shape or label.pixels.shape != label.shape:
        raise InputError(
            f"{pair.label.place} has the size {label.pixels.shape[::-1]}, its image {image.pixels.shape[::-1]}; "
            "they must be the same."
        )
    if trust_image:
        return
    distance = np.abs(_corners(image) - _corners(label)).max()
    tolerance = TOLERANCE * min(image.geometry["spacing"])
    if not distance <= tolerance:
        raise InputError(
            f"{pair.label.place} lies up to {distance:.3g} mm away from its image (spacing, origin or direction "
            f"differ); expected at most {tolerance:.2g} mm, a tenth of a voxel. If the two correspond voxel by voxel, "
            "add --trust-image-geometry."
        )


def _corners(image: InputImage) -> NDArray[np.float64]:
    """Positions in mm of the outermost voxel centres, (2^n, n)."""
    spacing, origin = (np.array(image.geometry[key]) for key in ("spacing", "origin"))
    size = np.array(image.file_shape[::-1])
    # A slice that was a volume keeps three axes in its geometry.
    direction = np.array(image.geometry["direction"]).reshape(len(spacing), len(spacing))
    corners = np.array(list(itertools.product((0, 1), repeat=len(spacing)))) * (size - 1) * spacing
    return origin + corners @ direction.T


def orient(image: InputImage, orientation: str, source: str | Path, array: NDArray | None = None) -> Oriented:
    """Permutes and flips axes; oblique volumes get the axes that are nearest to theirs, as ITK's DICOMOrient does.

    Args:
        image: a volume.
        orientation: where x, y and z shall increase to, e.g. "LPS": left, posterior, superior.
        source: the file, for messages.
        array: to orient instead of the volume's own values, of the same shape.

    Raises:
        InputError: not a volume.
    """
    import SimpleITK as sitk

    if image.dimensions != 3 or image.pixels.ndim != 3:
        raise InputError(
            f"{source} is not a grey volume with several slices along each axis; it has the size {image.file_shape}."
        )
    own = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.geometry["direction"])
    axes = [next(i for i in range(3) if own[i] in (letter, _OPPOSITE[letter])) for letter in orientation]
    # Array axes count backwards: axis 2 is x.
    values = (image.pixels if array is None else array).transpose([2 - axes[2], 2 - axes[1], 2 - axes[0]])
    flips = tuple(2 - i for i in range(3) if own[axes[i]] != orientation[i])
    x, y, z = (image.geometry["spacing"][axis] for axis in axes)
    return Oriented(np.flip(values, flips), (x, y, z))
