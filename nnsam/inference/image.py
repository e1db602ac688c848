"""Preparation of an image for box models: checks, channels, normalisation, slices."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.errors import InputError
from nnsam.inference.plane import Plane
from nnsam.inference.spec import BoxModelSpec
from nnsam.inference.statistics import Normalization

# Luma of ITU-R BT.601, what most software calls grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Slices of a volume that are kept ready; each is visited by many boxes in turn.
_KEPT_SLICES = 32


class PreparedImage:
    """An image, normalised as nnU-Net does: z-score per channel over the box of what is not zero; 0 outside of it.

    The image is neither copied nor changed; it must not be changed by others either while this object is used. Slices
    of a volume lie along its first axis.

    Args:
        image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), any real type, finite.
        spec: of the model. With 3 channels it gets a grey image three times, with 1 a colour image's luminance.
        spacing: pixel size in mm in array order, one value per dimension; None where unknown.
        dimensions: 2 or 3, where the shape alone is ambiguous, such as a volume of three columns; else found from the
            shape: three axes, the last of 3, are a colour picture.

    Attributes:
        shape: (H, W) or (D, H, W).

    Raises:
        InputError: not an image, or one with nan or infinite values; spacing that does not fit.
    """

    def __init__(
        self,
        image: ArrayLike,
        spec: BoxModelSpec,
        spacing: Sequence[float] | None = None,
        dimensions: int | None = None,
    ):
        pixels = np.asarray(image)
        dimensions = _dimensions(pixels, dimensions)
        _check_values(pixels)
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8)
        if not pixels.dtype.isnative:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        self.shape: tuple[int, ...] = pixels.shape[:dimensions]
        self.spec = spec
        self._spacing = _check_spacing(spacing, dimensions)
        pixels = pixels[..., None] if pixels.ndim == dimensions else pixels
        if spec.image_channels == 1 and pixels.shape[-1] == 3:
            pixels = luminance(pixels)
        self._pixels = pixels
        self._normalization = None if self._per_slice else Normalization.of(pixels)
        self.plane = lru_cache(maxsize=_KEPT_SLICES)(self._plane)
        if len(self.shape) == 2:  # of a volume's slices only those that a box needs
            self.plane(0).prepare(spec.patch_size)

    @property
    def _per_slice(self) -> bool:
        return len(self.shape) == 3 and self.spec.per_slice_normalization

    def _plane(self, index: int = 0) -> Plane:
        """Returns slice `index` of a volume, or the picture."""
        pixels = self._pixels[index] if len(self.shape) == 3 else self._pixels
        spacing = None if self._spacing is None else (self._spacing[-2], self._spacing[-1])
        return Plane(pixels, self._normalization_of(index, pixels), self.spec.image_channels, spacing)

    def _normalization_of(self, index: int, pixels: NDArray) -> Normalization:
        whole = self._normalization
        if whole is None:
            return Normalization.of(pixels)
        *stack, rows, columns = whole.inside
        if stack and not stack[0].start <= index < stack[0].stop:  # a slice of nothing but zeros
            rows = slice(0, 0)
        return Normalization((rows, columns), whole.mean, whole.std)


def luminance(pixels: NDArray) -> NDArray:
    """Turns (..., 3) into (..., 1): 8-bit stays 8-bit, everything else becomes float32."""
    result = np.empty((*pixels.shape[:-1], 1), np.uint8 if pixels.dtype == np.uint8 else np.float32)
    for index in range(len(pixels)):  # row by row, or slice by slice: no float copy of the whole
        grey = pixels[index].astype(np.float32) @ _LUMINANCE
        result[index, ..., 0] = np.rint(grey) if result.dtype == np.uint8 else grey
    return result


def _dimensions(pixels: NDArray, given: int | None) -> int:
    expected = "expected (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3)"
    if given not in (None, 2, 3):
        raise InputError(f"the image's dimensions were given as {given}; expected 2 or 3")
    if pixels.ndim not in (2, 3, 4) or pixels.size == 0:
        raise InputError(f"the image has the shape {pixels.shape}; {expected}, not empty")
    if given is None:
        given = 2 if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] <= 4) else 3
    extra = pixels.shape[given:]
    if pixels.ndim < given or extra not in ((), (3,)):
        hint = "; drop the alpha channel first" if extra in ((2,), (4,)) else ""
        raise InputError(f"the image has the shape {pixels.shape}; {expected}{hint}")
    return given


def _check_values(pixels: NDArray) -> None:
    real = pixels.dtype == bool or (np.issubdtype(pixels.dtype, np.number) and not np.iscomplexobj(pixels))
    if not real:
        raise InputError(f"the image holds values of type {pixels.dtype}; expected real numbers")
    if np.issubdtype(pixels.dtype, np.floating):
        # The extremes carry nan along and need no copy.
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("the image holds nan or infinite values; replace them by the background's value")
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise InputError(f"the image holds values of {max(-low, high):g}; expected at most those of 32-bit floats")


def _check_spacing(spacing: Sequence[float] | None, dimensions: int) -> tuple[float, ...] | None:
    if spacing is None:
        return None
    try:
        values = tuple(float(value) for value in spacing)
    except (TypeError, ValueError):
        raise InputError(f"spacing must hold {dimensions} numbers; found {spacing!r}") from None
    if len(values) != dimensions or not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(f"spacing must hold {dimensions} positive numbers, in array order; found {values}")
    return values
