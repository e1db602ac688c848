"""Which slices of a volume become cases, and how they get one size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.datasets.mmwhs.files import Pair
from nnsam.errors import InputError
from nnsam.io.image import Geometry, Image
from nnsam.io.volumes import read_volume

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


def read_pair(pair: Pair, *, trust_image: bool = False) -> tuple[Image, Image | None]:
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


def _check_same_grid(pair: Pair, image: Image, label: Image, trust_image: bool) -> None:
    assert pair.label is not None
    if label.file_shape != image.file_shape or label.pixels.shape != label.shape:
        raise InputError(
            f"{pair.label.place} has the size {label.file_shape[::-1]}, its image {image.file_shape[::-1]}; "
            "they must be the same."
        )
    if trust_image:
        return
    geometry, size = _geometry(image), image.file_shape[::-1]
    distance = np.abs(geometry.corners(size) - _geometry(label).corners(size)).max()
    tolerance = TOLERANCE * min(geometry.spacing)
    if not distance <= tolerance:
        raise InputError(
            f"{pair.label.place} lies up to {distance:.3g} mm away from its image (spacing, origin or direction "
            f"differ); expected at most {tolerance:.2g} mm, a tenth of a voxel. If the two correspond voxel by voxel, "
            "add --trust-image-geometry."
        )


def _geometry(image: Image) -> Geometry:
    assert image.geometry is not None, "read from a volume"
    return image.geometry


def orient(image: Image, orientation: str, source: str | Path, array: NDArray | None = None) -> Oriented:
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
    own = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(_geometry(image).direction)
    axes = [next(i for i in range(3) if own[i] in (letter, _OPPOSITE[letter])) for letter in orientation]
    # Array axes count backwards: axis 2 is x.
    values = (image.pixels if array is None else array).transpose([2 - axes[2], 2 - axes[1], 2 - axes[0]])
    flips = tuple(2 - i for i in range(3) if own[axes[i]] != orientation[i])
    x, y, z = (_geometry(image).spacing[axis] for axis in axes)
    return Oriented(np.flip(values, flips), (x, y, z))


# plane -> (where x, y, z increase to, array axis that the slices are stacked on, letter for it in a case's name).
# Axial slices have the patient's front at the top, the other two the head, all three as radiologists look at them.
PLANES = {"axial": ("LPS", 0, "z"), "coronal": ("LPI", 1, "y"), "sagittal": ("LPI", 2, "x")}
FITS = ("resample", "crop")


@dataclass(frozen=True)
class SliceRule:
    """How a volume becomes slices.

    Attributes:
        plane: axial, coronal or sagittal, by the volume's axes that are nearest to the patient's.
        per_volume: slices to take of each volume, evenly spaced among those that qualify; 0: all that qualify.
        min_classes: a slice qualifies if it holds at least this many of the wanted classes.
        size: (width, height) in pixels of every slice; None leaves the volume's own.
        fit: "resample": square pixels of the size, one for a whole volume, with which its slices just fit in, the rest
            padded. "crop": the volume's own pixels, in a window around the middle of all its labelled voxels, one for
            a whole volume, padded where it is smaller. Padding is the volume's lowest value, and background.
    """

    plane: str = "axial"
    per_volume: int = 16
    min_classes: int = 5
    size: tuple[int, int] | None = None
    fit: str = "resample"

    def __post_init__(self) -> None:
        """Raises InputError where a choice is none."""
        if self.plane not in PLANES or self.fit not in FITS:
            raise InputError(
                f"Plane {self.plane!r} and fit {self.fit!r}: expected {', '.join(PLANES)} and {' or '.join(FITS)}."
            )
        if self.per_volume < 0 or self.min_classes < 1 or (self.size is not None and min(self.size) < 16):
            raise InputError(
                f"Found {self.per_volume} slices per volume, {self.min_classes} classes per slice and the size "
                f"{self.size}; expected at least 0, 1 and 16 pixels a side."
            )

    def __str__(self) -> str:
        """One sentence for the reader of dataset.json."""
        count = f"{self.per_volume} slices per volume, evenly spaced among those" if self.per_volume else "all slices"
        rule = f"{self.plane} slices: {count} that hold at least {self.min_classes} of the classes"
        if self.size is None:
            return rule + ", native size"
        return rule + f", {self.size[0]}x{self.size[1]} pixels ({self.fit})"


@dataclass(frozen=True)
class Slice:
    """One case.

    Attributes:
        index: along the oriented volume's axis.
        image: (H, W).
        labels: (H, W).
        spacing_xy: in mm.
        cut: the window left labelled pixels out.
    """

    index: int
    image: NDArray
    labels: NDArray[np.uint8]
    spacing_xy: tuple[float, float]
    cut: bool = False


def choose_slices(qualifying: Sequence[int], count: int) -> list[int]:
    """Takes `count` of the given slices: of each of as many equal parts of the list the middle one.

    Args:
        qualifying: indices, in order.
        count: how many; all where there are no more, or where it is 0.

    Example:
        >>> choose_slices(range(10, 20), 3)
        [11, 15, 18]
    """
    total = len(qualifying)
    if count == 0 or total <= count:
        return list(qualifying)
    return [qualifying[(2 * part + 1) * total // (2 * count)] for part in range(count)]


def qualifying_slices(labels: NDArray[np.uint8], classes: int, min_classes: int) -> list[int]:
    """Indices along the first axis of slices that hold at least `min_classes` of the labels 1 .. `classes`."""
    held = np.zeros(len(labels), int)
    for label in range(1, classes + 1):
        held += (labels == label).any(axis=(1, 2))
    return np.flatnonzero(held >= min_classes).tolist()


def take_slices(
    image: NDArray,
    labels: NDArray[np.uint8],
    spacing_xyz: tuple[float, float, float],
    rule: SliceRule,
    classes: int,
) -> Iterator[Slice]:
    """Gives the slices that a rule takes of a volume, one at a time.

    Args:
        image: (Z, Y, X) in the orientation of the rule's plane.
        labels: of the same shape, 0 .. `classes`.
        spacing_xyz: in mm.
        rule: the rule.
        classes: number of classes.
    """
    axis = PLANES[rule.plane][1]
    stack, maps = np.moveaxis(image, axis, 0), np.moveaxis(labels, axis, 0)
    x, y, z = spacing_xyz
    spacing = {"axial": (x, y), "coronal": (x, z), "sagittal": (y, z)}[rule.plane]
    chosen = choose_slices(qualifying_slices(maps, classes, rule.min_classes), rule.per_volume)
    if not chosen:
        return
    padding = image.min()
    centre = _centre(maps) if rule.size and rule.fit == "crop" else (0, 0)
    for index in chosen:
        picture, label = np.ascontiguousarray(stack[index]), np.ascontiguousarray(maps[index])
        if rule.size is None:
            yield Slice(index, picture, label, spacing)
        elif rule.fit == "crop":
            window = crop_or_pad(label, centre, rule.size, 0)
            cut = bool(np.count_nonzero(window) < np.count_nonzero(label))
            yield Slice(index, crop_or_pad(picture, centre, rule.size, padding), window, spacing, cut)
        else:
            yield Slice(index, *resample_to_fit(picture, label, spacing, rule.size, padding))


def _centre(maps: NDArray[np.uint8]) -> tuple[int, int]:
    """Middle (row, column) of the box around all labelled voxels of a stack, in half pixels."""
    rows, columns = (np.flatnonzero(np.any(maps, axis=(0, other))) for other in (2, 1))
    return int(rows[0] + rows[-1] + 1), int(columns[0] + columns[-1] + 1)


def crop_or_pad(array: NDArray, centre: tuple[int, int], size: tuple[int, int], padding: float) -> NDArray:
    """Cuts a window out of a slice.

    Args:
        array: (H, W).
        centre: row and column of the window's middle in half pixels: 2 is the edge between the first two pixels.
        size: (width, height) of the window.
        padding: value of what lies outside of the slice.

    Returns:
        (height, width), same type.
    """
    shape = size[::-1]
    window = np.full(shape, padding, array.dtype)
    starts = [(middle - length) // 2 for middle, length in zip(centre, shape, strict=True)]
    inside = [
        slice(max(start, 0), min(start + length, limit))
        for start, length, limit in zip(starts, shape, array.shape, strict=True)
    ]
    if all(part.stop > part.start for part in inside):
        target = tuple(slice(p.start - s, p.stop - s) for p, s in zip(inside, starts, strict=True))
        window[target] = array[tuple(inside)]
    return window


def resample_to_fit(
    image: NDArray, labels: NDArray[np.uint8], spacing_xy: tuple[float, float], size: tuple[int, int], padding: float
) -> tuple[NDArray, NDArray[np.uint8], tuple[float, float]]:
    """Resamples a slice to square pixels with which it just fits into a given size, and pads it.

    The middle of the slice stays the middle. The image is smoothed before it is made coarser, and interpolated
    linearly; a label is that of the nearest pixel.

    Args:
        image: (H, W).
        labels: (H, W).
        spacing_xy: in mm.
        size: (width, height) of the result.
        padding: value outside of the slice.

    Returns:
        Image of its own type and labels, (height, width) each, and the new spacing.
    """
    import SimpleITK as sitk
    from scipy.ndimage import gaussian_filter

    extent = [count * side for count, side in zip(image.shape[::-1], spacing_xy, strict=True)]
    pixel = max(length / count for length, count in zip(extent, size, strict=True))
    # Frequencies that the coarser grid cannot hold would fold back; sigma as in skimage.transform.resize.
    sigma = [max(0.0, (pixel / side - 1) / 2) for side in reversed(spacing_xy)]
    smooth = gaussian_filter(image.astype(np.float64), sigma, mode="nearest")
    # Pixel centres, in mm from the slice's middle.
    grid = sitk.Image(*size, sitk.sitkUInt8)
    grid.SetSpacing((pixel, pixel))
    grid.SetOrigin([-(count - 1) / 2 * pixel for count in size])
    results = []
    for array, method, fill in ((smooth, sitk.sitkLinear, padding), (labels, sitk.sitkNearestNeighbor, 0)):
        picture = sitk.GetImageFromArray(array)
        picture.SetSpacing(spacing_xy)
        picture.SetOrigin([-(count - 1) / 2 * side for count, side in zip(image.shape[::-1], spacing_xy, strict=True)])
        resampled = sitk.Resample(picture, grid, sitk.Transform(2, sitk.sitkIdentity), method, float(fill))
        results.append(sitk.GetArrayFromImage(resampled))
    fitted = np.rint(results[0]) if image.dtype.kind in "iu" else results[0]
    return fitted.astype(image.dtype), results[1], (pixel, pixel)
