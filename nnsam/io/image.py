"""Images of any type as 8-bit RGB pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError


@dataclass(frozen=True)
class InputImage:
    """Pixels and what is needed to write a label map of the same geometry.

    Attributes:
        pixels: (H, W) or (D, H, W), in colour with a last axis of 3; any real type, finite.
        dimensions: 2 for a picture, 3 for a volume; a volume of one slice is a picture.
        spacing: pixel size in mm in array order, (y, x) or (z, y, x); None where the file holds none.
        geometry: SimpleITK's spacing, origin and direction of the file; empty where the file holds none.
        file_shape: shape of a label map in the file's format, `shape` or (1, H, W) for a single slice.
        boxes: the file's own boxes in the users' convention, unchecked; None where it has none.
        missing_boxes: what to tell about a file that has no boxes of its own, a clause after its name.
    """

    pixels: NDArray
    dimensions: int
    spacing: tuple[float, ...] | None = None
    geometry: dict[str, tuple[float, ...]] = field(default_factory=dict)
    file_shape: tuple[int, ...] = ()
    boxes: NDArray | None = None
    missing_boxes: str = "needs boxes; give --box or --boxes"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the colour axis, (H, W) or (D, H, W)."""
        return self.pixels.shape[: self.dimensions]


def make_input_image(
    source: Path, pixels: NDArray, dimensions: int, *, spacing: tuple[float, ...] | None = None, **attributes
) -> InputImage:
    """Checks pixels and brings them into the one form that `InputImage` states.

    Colour images of three equal channels become grey, boolean ones 8-bit, volumes of one slice pictures unless they
    bring boxes with a z.

    Args:
        source: the file, for messages.
        pixels: as in `InputImage`.
        dimensions: number of axes of `pixels` without the colour axis.
        spacing: as in `InputImage`, one value per axis.
        attributes: further attributes of `InputImage`.

    Raises:
        InputError: no pixels, not real numbers, nan or infinite.
    """
    if pixels.size == 0 or not (pixels.dtype == bool or np.issubdtype(pixels.dtype, np.number)):
        raise InputError(f"{source}: an image must hold numbers; found {pixels.dtype}, shape {pixels.shape}.")
    if np.iscomplexobj(pixels):
        raise InputError(f"{source} holds complex numbers; save their magnitude.")
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise InputError(f"{source} holds values that are nan or infinite; replace them by the background's value.")
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.ndim > dimensions and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    file_shape = pixels.shape[:dimensions]
    if dimensions == 3 and file_shape[0] == 1 and attributes.get("boxes") is None:
        pixels, dimensions = pixels[0], 2
        spacing = None if spacing is None else spacing[1:]
    return InputImage(pixels, dimensions, spacing, file_shape=file_shape, **attributes)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises about a damaged file into one sentence.

    Raises:
        InputError: instead of any other exception; Ctrl-C passes.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damaged files make decoders raise anything: KeyError, struct.error, RuntimeError, ...
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"{path} cannot be read ({lines[-1].rstrip('.')}).") from error


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
