"""One image: pixels, where they lie in space, and what is known of the file that they came from."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError, NnsamError
from nnsam.support.text import clipped

Kind = Literal["picture", "tiff", "volume", "dicom", "series", "npz"]


class Tolerance(NamedTuple):
    """How far two numbers may lie apart: `absolute + relative * |expected|`."""

    relative: float
    absolute: float


def agree(found: ArrayLike, expected: ArrayLike, tolerance: Tolerance) -> bool:
    """Whether two lists of numbers have one length and differ by no more than a tolerance; nan differs from all."""
    one, other = np.asarray(found), np.asarray(expected)
    return one.shape == other.shape and np.allclose(one, other, rtol=tolerance.relative, atol=tolerance.absolute)


class Tolerances(NamedTuple):
    """How far two geometries may lie apart.

    The defaults forgive what NIfTI loses by storing single precision, and what converters round: a thousandth, and a
    hundredth of a millimetre.
    """

    spacing: Tolerance = Tolerance(1e-3, 1e-2)
    origin: Tolerance = Tolerance(1e-3, 1e-2)
    direction: Tolerance = Tolerance(1e-3, 1e-2)


_ROUNDED = Tolerances()


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a file lie in space, as ITK has it: axes in the order x, y and, of volumes, z.

    Positions are those of the file's format: x to the patient's left, y to the back, z to the head in DICOM and NIfTI.

    Attributes:
        spacing: distance of neighbouring pixel centres in mm, one value per axis.
        origin: position of the centre of the first pixel in mm.
        direction: the D x D cosines row by row; column i says where axis i points.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @property
    def dimensions(self) -> int:
        """D, the number of axes of the file."""
        return len(self.spacing)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(D + 1, D + 1), from indices (x, y[, z], 1) to positions in mm."""
        count = self.dimensions
        matrix = np.eye(count + 1)
        matrix[:count, :count] = np.reshape(self.direction, (count, count)) * self.spacing
        matrix[:count, count] = self.origin
        return matrix

    def corners(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Positions in mm of the outermost pixel centres, (2^D, D); `size` counts the pixels along x, y[, z]."""
        count = self.dimensions
        steps = np.array(list(itertools.product((0, 1), repeat=count))) * (np.array(size) - 1) * self.spacing
        return self.origin + steps @ np.reshape(self.direction, (count, count)).T

    def differences(self, expected: "Geometry", tolerances: Tolerances = _ROUNDED) -> list[str]:
        """Names of what differs from another geometry, among "spacing", "origin" and "direction"."""
        return [
            name
            for name in Tolerances._fields
            if not agree(getattr(self, name), getattr(expected, name), getattr(tolerances, name))
        ]


# Axes count as lying in one plane where the volume of their unit vectors is smaller.
_SINGULAR = 1e-3
# No pixel is smaller or larger, in mm or whatever unit a file means; squares of such numbers are still numbers.
SMALLEST, LARGEST = 1e-9, 1e9


def check_geometry(source: str | Path, geometry: Geometry) -> None:
    """Refuses a place that is none, before a library makes 1 mm of it.

    Raises:
        InputError: nan, infinite, a pixel size of 0 or less or of another world, or axes that lie in one plane.
    """
    numbers = np.array([*geometry.spacing, *geometry.origin, *geometry.direction], float)
    if not np.isfinite(numbers).all():
        raise InputError(f"{source} places its pixels at nan or infinity; mend its header.")
    if not all(SMALLEST <= size <= LARGEST for size in geometry.spacing):
        text = " x ".join(f"{size:g}" for size in geometry.spacing)
        raise InputError(f"{source} states a pixel size of {text}; expected numbers above 0, so mend its header.")
    axes = np.reshape(geometry.direction, (geometry.dimensions, geometry.dimensions))
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths.all() or abs(np.linalg.det(axes / lengths)) < _SINGULAR:
        raise InputError(f"{source} has axes that lie in one plane; mend its header.")


@dataclass(frozen=True)
class DicomSource:
    """Where the slices of an image come from, for files that refer to them.

    Attributes:
        files: of each slice, in the order of the image's first axis; one file for a picture.
        frames: of each slice, its frame in that file, counted from 1 as DICOM does; 1 in files of one frame.
    """

    files: tuple[Path, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """What a label stands for, for formats that hold names, such as DICOM SEG.

    Attributes:
        label: value in label maps, 1 to 65535; several segments may have one.
        name: for people.
        mask: in the image's `shape`; None for all pixels of the label in a label map.
    """

    label: int
    name: str
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels and all that is known of them; what is unknown is None.

    A label map is an image whose pixels are labels: integers, 0 the background, without a colour axis.

    Attributes:
        pixels: (H, W) or (D, H, W), in colour with a last axis of 3; any real type, finite.
        dimensions: 2 for a picture, 3 for a volume; a volume of one slice is read as a picture.
        spacing: pixel size in mm in array order, (y, x) or (z, y, x).
        geometry: of the file; keeps three axes where the file is a volume of one slice.
        kind: of the file: picture (PNG, JPEG, BMP), tiff, volume (NIfTI, NRRD, MHA), dicom (one file), series (folder)
            or npz.
        path: of the file, or of the folder of a DICOM series.
        file_shape: shape that a label map has in the file's format: `shape`, or with an axis of 1 for a single slice.
        boxes: the file's own boxes in the users' convention, unchecked.
        missing_boxes: what to tell about a file that has no boxes of its own, a clause after its name.
        notices: what its user has to know of the file, a sentence each, such as that slices are missing. Whoever reads
            by `read_image` or `read_labels` is warned of them; results that name the file repeat them.
        dicom: where the slices of a DICOM image come from.
        nifti: nibabel's header of a NIfTI file, whose place and units label maps take over.
    """

    pixels: NDArray
    dimensions: int
    spacing: tuple[float, ...] | None = None
    geometry: Geometry | None = None
    kind: Kind | None = None
    path: Path | None = None
    file_shape: tuple[int, ...] = ()
    boxes: NDArray | None = None
    missing_boxes: str = "needs boxes; give --box or --boxes"
    notices: tuple[str, ...] = ()
    dicom: DicomSource | None = None
    nifti: Any = None

    def __post_init__(self) -> None:
        """Takes the pixels' own shape for the file's where no other is given."""
        if not self.file_shape:
            object.__setattr__(self, "file_shape", self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the colour axis, (H, W) or (D, H, W)."""
        return self.pixels.shape[: self.dimensions]

    @property
    def channels(self) -> int:
        """3 for colour, else 1."""
        return 1 if self.pixels.ndim == self.dimensions else self.pixels.shape[-1]

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """See `Geometry.affine`; None where the file has no geometry."""
        return None if self.geometry is None else self.geometry.affine

    def with_pixels(self, pixels: NDArray) -> "Image":
        """The same place and file with other pixels of the same shape, such as a channel or the labels."""
        return replace(self, pixels=pixels, boxes=None)


def make_image(
    source: str | Path,
    pixels: NDArray,
    dimensions: int,
    *,
    kind: Kind | None = None,
    spacing: tuple[float, ...] | None = None,
    geometry: Geometry | None = None,
    **attributes: Any,
) -> Image:
    """Checks pixels and brings them into the one form that images to be segmented have.

    Colour images of three equal channels become grey, boolean ones 8-bit, volumes of one slice, along whichever axis,
    pictures unless they bring boxes with a z.

    Args:
        source: the file, also for messages.
        pixels: as in `Image`.
        dimensions: number of axes of `pixels` without the colour axis.
        kind: as in `Image`.
        spacing: one value per axis; that of the geometry by default.
        geometry: as in `Image`.
        attributes: further attributes of `Image`.

    Raises:
        InputError: no pixels, not real numbers, nan or infinite, or see `check_geometry`.
    """
    if geometry is not None:
        check_geometry(source, geometry)
    if pixels.size == 0 or not (pixels.dtype == bool or np.issubdtype(pixels.dtype, np.number)):
        raise InputError(f"{source}: an image must hold numbers; found {pixels.dtype}, shape {pixels.shape}.")
    if np.iscomplexobj(pixels):
        raise InputError(f"{source} holds complex numbers; save their magnitude.")
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise InputError(f"{source} holds values that are nan or infinite; replace them by the background's value.")
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.ndim > dimensions and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if spacing is None and geometry is not None:
        spacing = geometry.spacing[::-1]
    image = Image(pixels, dimensions, spacing, geometry, kind, Path(source), pixels.shape[:dimensions], **attributes)
    return image if image.boxes is not None else without_single_slice(image)


def make_labels(
    source: str | Path,
    values: NDArray,
    *,
    kind: Kind | None = None,
    spacing: tuple[float, ...] | None = None,
    geometry: Geometry | None = None,
    **attributes: Any,
) -> Image:
    """Checks label values and makes a label map of them.

    Args:
        source: the file, also for messages.
        values: (H, W) or (D, H, W); whole floats and booleans become integers.
        kind: as in `Image`.
        spacing: one value per axis; that of the geometry by default.
        geometry: as in `Image`.
        attributes: further attributes of `Image`.

    Raises:
        InputError: no pixels, other numbers of axes, fractions, not finite, or negative; or see `check_geometry`.
    """
    if geometry is not None:
        check_geometry(source, geometry)
    if values.ndim not in (2, 3):
        raise InputError(f"{source} has {values.ndim} dimensions; a label map has 2 or 3.")
    if values.size == 0:
        raise InputError(f"{source} holds no pixels: its shape is {values.shape}.")
    if spacing is None and geometry is not None:
        spacing = geometry.spacing[::-1]
    return Image(_as_labels(values, source), values.ndim, spacing, geometry, kind, Path(source), **attributes)


def _as_labels(values: NDArray, source: str | Path) -> NDArray[np.integer]:
    if values.dtype == bool:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise InputError(f"{source} holds values that are no whole numbers; is it an image or a probability map?")
        values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise InputError(f"{source} holds negative values, which are no labels.")
    return values


def without_single_slice(image: Image) -> Image:
    """Turns a volume of a single slice, along any axis, into a picture; label maps have no surface across the slice."""
    if image.dimensions != 3 or 1 not in image.shape:
        return image
    axis = image.shape.index(1)
    spacing = None if image.spacing is None else image.spacing[:axis] + image.spacing[axis + 1 :]
    return replace(image, pixels=image.pixels.squeeze(axis), dimensions=2, spacing=spacing)


def reason_of(error: Exception) -> str:
    """What an exception says on one line; of ITK's long ones the last line, which holds the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = lines[-1] if "ITK" in lines[0] else " ".join(lines)
    return clipped(text).rstrip(".")


@contextmanager
def decoding(path: str | Path, sentence: str = "{path} cannot be read ({reason}).") -> Iterator[None]:
    """Turns whatever a decoder raises about a damaged file into one sentence.

    Args:
        path: the file.
        sentence: with the places {path} and {reason}.

    Raises:
        InputError: instead of any other exception; this package's errors and Ctrl-C pass.
    """
    try:
        yield
    except NnsamError:
        raise
    except Exception as error:  # damaged files make decoders raise anything: KeyError, struct.error, RuntimeError, ...
        raise InputError(sentence.format(path=path, reason=reason_of(error))) from error


PERCENTILES = (0.5, 99.5)


def to_eight_bit(image: NDArray) -> NDArray[np.uint8]:
    """Intensities from 0 to 255.

    8-bit images stay as they are; in the challenge's data this includes CT, whose window was applied before. All
    others are clipped to the 0.5th and 99.5th percentile of the voxels that are not 0, and scaled, as the challenge
    does for MR; voxels of exactly 0 stay 0 where no voxel is negative, since then 0 is what lies outside the body.

    Args:
        image: any shape, a whole picture or volume; finite real numbers.

    Returns:
        The same shape.

    Example:
        >>> to_eight_bit(np.array([0, 100, 200, 300], np.int16)).tolist()
        [0, 0, 127, 255]
    """
    if image.dtype == np.uint8:
        return image
    values = image.astype(np.float64)
    occupied = values[values != 0]
    if not occupied.size:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(occupied, PERCENTILES)
    if high <= low:
        return np.where(values >= high, 255, 0).astype(np.uint8)
    scaled = (np.clip(values, low, high) - low) / (high - low) * 255
    if values.min() >= 0:
        scaled[values == 0] = 0
    return scaled.astype(np.uint8)


def to_rgb(picture: NDArray[np.uint8], is_colour: bool) -> NDArray[np.uint8]:
    """(H, W) repeated to (H, W, 3); colour stays as it is."""
    return picture if is_colour else np.repeat(picture[..., None], 3, axis=-1)
