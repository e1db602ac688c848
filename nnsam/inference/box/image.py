"""Preparation of an image for box models: checks, channels, normalisation, slices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from nnsam.errors import InputError
from nnsam.geometry.boxes import shift
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.zoom import CONTEXT

# nnU-Net's ZScoreNormalization divides by at least this.
MIN_STD = 1e-8
_STRIP = 2**21  # values


def nonzero_slices(image: NDArray) -> tuple[slice, ...]:
    """Returns the bounding box of what is not zero in any channel, or the whole of an image of zeros.

    nnU-Net crops to this box before it normalises. Image: (H, W, C) or (D, H, W, C).
    """
    found: tuple[slice, ...] = ()
    for axis in range(image.ndim - 1):
        size = image.shape[axis]
        rest = np.moveaxis(image[found], axis, 0)
        first = next((index for index in range(size) if rest[index].any()), None)
        if first is None:
            return tuple(slice(0, side) for side in image.shape[:-1])
        last = next(index for index in reversed(range(size)) if rest[index].any())
        found = (*found, slice(first, last + 1))
    return found


@dataclass(frozen=True)
class Normalization:
    """How nnU-Net normalises an image.

    Attributes:
        inside: the part that nnU-Net keeps: the box of what is not zero in any channel. What lies outside of it does
            not exist for the network, which sees 0 there, as beyond the image.
        mean: (C,), over that part.
        std: (C,), over that part, positive.
    """

    inside: tuple[slice, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def none(cls, shape: Sequence[int], channels: int) -> "Normalization":
        """For images that nnU-Net has normalised and cut out already; shape: (H, W) or (D, H, W)."""
        return cls(tuple(slice(0, int(side)) for side in shape), np.zeros(channels), np.ones(channels))

    @classmethod
    def of(cls, image: NDArray) -> "Normalization":
        """Measures an image, (H, W, C) or (D, H, W, C)."""
        inside = nonzero_slices(image)
        cropped = image[inside]
        if image.dtype in (np.uint8, np.uint16):
            pairs = [_moments_of_histogram(counts) for counts in _histograms(cropped)]
        else:
            pairs = [_moments(cropped[..., channel]) for channel in range(image.shape[-1])]
        mean, std = np.array(pairs, dtype=np.float64).T
        return cls(inside, mean, np.maximum(std, MIN_STD))


def strips(values: NDArray) -> Iterator[NDArray]:
    """Yields parts along the first axis that are small enough for a processor's cache."""
    rows = max(1, _STRIP // max(1, values[0].size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def _moments(values: NDArray) -> tuple[float, float]:
    mean = sum(float(strip.sum(dtype=np.float64)) for strip in strips(values)) / values.size
    squares = sum(float(((strip.astype(np.float64) - mean) ** 2).sum()) for strip in strips(values))
    return mean, float(np.sqrt(squares / values.size))


def _moments_of_histogram(counts: NDArray[np.int64]) -> tuple[float, float]:
    levels, total = np.arange(counts.size, dtype=np.float64), int(counts.sum())
    mean = float(counts @ levels) / total
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / total))


def _histograms(values: NDArray) -> NDArray[np.int64]:
    """Counts of each value per channel, (C, 256) or (C, 65536), of 8-bit or 16-bit (..., C)."""
    channels, levels = values.shape[-1], 2 ** (8 * values.dtype.itemsize)
    total = np.zeros((channels, levels), dtype=np.int64)
    for strip in strips(values):
        if levels == 256 and channels in (1, 3):  # Pillow counts 8-bit pictures without widening them
            pixels = np.ascontiguousarray(strip).reshape(-1, *strip.shape[-2:])
            counts = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).histogram()
            total += np.array(counts).reshape(channels, levels)
        else:
            for channel in range(channels):
                total[channel] += np.bincount(strip[..., channel].ravel(), minlength=levels)
    return total


# Results of this many pixels and more are quicker by two matrix products than by Pillow; the numbers are the same.
_MATRICES_FROM = 2**21


class Plane:
    """A picture, or one slice of a volume, with its normalisation.

    Patches of the picture are resampled first and normalised then, which is the same as the reverse because both are
    linear, and spares a float copy of large 8-bit pictures. Where a patch shrinks the picture by 2 or more it is cut
    out of a pyramid of halved copies, made at the latest when first needed and kept, so that a patch costs the same
    whatever the size of its region. What a patch shows beyond the picture is 0, the mean of a normalised picture.

    Args:
        pixels: (H, W, C), native byte order; kept, not copied, never changed.
        normalization: two-dimensional; what lies outside of its part counts as beyond the picture.
        channels: of the patches: C, or 3 where C is 1 and grey is repeated.
        spacing: pixel size (y, x) in mm; None where unknown.
    """

    def __init__(
        self,
        pixels: NDArray,
        normalization: Normalization,
        channels: int,
        spacing: tuple[float, float] | None = None,
    ):
        self.shape: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self.spacing = spacing
        self._channels = channels
        self._mean, self._std = normalization.mean.astype(np.float32), normalization.std.astype(np.float32)
        rows, columns = normalization.inside
        self._origin = np.array([rows.start, columns.start])
        pixels = pixels[rows, columns]
        # The pyramid holds 8-bit pictures as they are. Others are centred first: what is constant then is exactly 0
        # and stays so when it is resampled, as in nnU-Net, which normalises first.
        self._raw = pixels.dtype == np.uint8
        self._levels: list[NDArray] = [pixels if self._raw else pixels.astype(np.float32) - self._mean]

    def patch(self, region: ArrayLike, size: Sequence[int]) -> NDArray[np.float32]:
        """Cuts a part out, resampled and normalised.

        Args:
            region: (y0, x0, y1, x1) in pixel edges; may have fractions and reach beyond the picture.
            size: (h, w) of the result.

        Returns:
            (channels, h, w), bilinear, with antialiasing where it shrinks.
        """
        corners = shift(np.asarray(region, dtype=np.float64), -self._origin)
        height, width = (int(side) for side in size)
        step = (corners[2:] - corners[:2]) / (height, width)
        rows = _inside(corners[0], step[0], height, self._levels[0].shape[0])
        columns = _inside(corners[1], step[1], width, self._levels[0].shape[1])
        result = np.zeros((self._channels, height, width), dtype=np.float32)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return result
        level = max(0, int(np.floor(np.log2(step.min()) + 1e-9)))
        lower = corners[:2] + step * (rows.start, columns.start)
        upper = corners[:2] + step * (rows.stop, columns.stop)
        part = self._resample(level, lower, upper, step, (rows.stop - rows.start, columns.stop - columns.start))
        part /= self._std[:, None, None]
        result[:, rows, columns] = part  # repeats a single channel
        return result

    def prepare(self, size: Sequence[int]) -> None:
        """Makes the pyramid that patches (h, w) of a box around the whole picture need, before the first patch does."""
        step = CONTEXT * max(np.array(self._levels[0].shape[:2]) / size)
        if step >= 2:
            self._level(int(np.log2(step)))

    def _level(self, index: int) -> NDArray:
        while len(self._levels) <= index:
            self._levels.append(_halve(self._levels[-1]))
        return self._levels[index]

    def _resample(
        self, level: int, lower: NDArray, upper: NDArray, step: NDArray, size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Returns the centred part between two corners, in pixels of the picture, as (C, *size)."""
        source, factor = self._level(level), 2.0**level
        low, high, reach = lower / factor, upper / factor, np.ceil(step / factor).astype(int) + 1
        # Half a pixel of the patch may lie beyond the picture.
        start, stop = np.floor(low).astype(int), np.ceil(high).astype(int)
        limits = np.array(source.shape[:2])
        first = np.maximum(start - reach, np.minimum(start, 0))
        last = np.minimum(stop + reach, np.maximum(stop, limits))
        inside = tuple(slice(max(0, a), min(b, n)) for a, b, n in zip(first, last, limits, strict=True))
        part = source[inside].astype(np.float32)
        if self._raw:
            part -= self._mean
        beyond = [(max(0, -a), max(0, b - n)) for a, b, n in zip(first, last, limits, strict=True)]
        if any(map(any, beyond)):
            part = np.pad(part, [*beyond, (0, 0)], mode="edge")
        box = (low[1] - first[1], low[0] - first[0], high[1] - first[1], high[0] - first[0])
        return np.stack([resize(part[..., channel], size, box) for channel in range(part.shape[-1])])


def resize(
    values: NDArray[np.float32], size: Sequence[int], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """Resizes (H, W), or its part `box` (x0, y0, x1, y1), to `size` (h, w): bilinear, antialiased when shrinking."""
    height, width = (int(side) for side in size)
    if box is not None:  # rounding may carry a box past the border
        box = (max(0.0, box[0]), max(0.0, box[1]), min(box[2], values.shape[1]), min(box[3], values.shape[0]))
        if box == (int(box[0]), int(box[1]), int(box[0]) + width, int(box[1]) + height):
            left, top = int(box[0]), int(box[1])
            return np.array(values[top : top + height, left : left + width], dtype=np.float32)
    if height * width > _MATRICES_FROM and height > values.shape[0] and width > values.shape[1]:
        rows, columns = _weights(values.shape[0], height, box, 1), _weights(values.shape[1], width, box, 0)
        return rows @ (values @ columns.T)
    return _resize(values, (height, width), box)


def _weights(size: int, target: int, box: tuple[float, float, float, float] | None, axis: int) -> NDArray[np.float32]:
    """The share of each of `size` pixels in each of `target`, (target, size), along x (0) or y (1) of the box."""
    low, high = (0.0, float(size)) if box is None else (box[axis], box[axis + 2])
    return _resize(np.eye(size, dtype=np.float32), (target, size), (0.0, low, float(size), high))


def _resize(
    values: NDArray[np.float32], size: tuple[int, int], box: tuple[float, float, float, float] | None
) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _halve(values: NDArray) -> NDArray:
    """Averages blocks of 2 x 2 pixels of (H, W, C); the last row and column of odd sides stand alone."""
    if values.dtype == np.uint8 and values.shape[-1] == 3:
        return _halve_picture(values)
    return np.stack([_halve_picture(values[..., channel]) for channel in range(values.shape[-1])], axis=-1)


def _halve_picture(values: NDArray) -> NDArray:
    """The same for what Pillow takes as one picture: (H, W), or 8-bit (H, W, 3)."""
    rows = max(2, 2**20 // values[0].size * 2)  # an even number, about 2 million values
    parts = (np.ascontiguousarray(values[start : start + rows]) for start in range(0, len(values), rows))
    return np.concatenate([np.asarray(Image.fromarray(part).reduce(2)) for part in parts])


def _inside(low: float, step: float, size: int, limit: int) -> slice:
    """The patch's pixels whose centres lie in 0..limit of the picture."""
    first = int(np.ceil(-low / step - 0.5 - 1e-9))
    last = int(np.ceil((limit - low) / step - 0.5 - 1e-9))
    return slice(min(max(first, 0), size), min(max(last, 0), size))


# Luma of ITU-R BT.601, what most software calls grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Slices of a volume that are kept ready; each is visited by many boxes in turn.
_KEPT_SLICES = 32


class PreparedImage:
    """An image, normalised as nnU-Net does: z-score per channel over the box of what is not zero; 0 outside of it.

    The image is neither copied nor changed; it must not be changed by others either while this object is used. Slices
    of a volume lie along the axis that comes first in training, see :class:`nnsam.prompts.box_model.BoxModelSpec`.

    Args:
        image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), any real type, finite.
        spec: of the model. With 3 channels it gets a grey image three times, with 1 a colour image's luminance.
        spacing: pixel size in mm in array order, one value per dimension; None where unknown.
        dimensions: 2 or 3, where the shape alone is ambiguous, such as a volume of three columns; else found from the
            shape: three axes, the last of 3, are a colour picture, and of 1 a grey one.
        is_normalized: it was normalised and cut out by nnU-Net; taken as it is.

    Attributes:
        shape: (H, W) or (D, H, W), as it was given.
        order: of its axes, in which slices are taken, boxes expected and results given.

    Raises:
        InputError: not an image, or one with nan or infinite values; spacing that does not fit.
    """

    def __init__(
        self,
        image: ArrayLike,
        spec: BoxModelSpec,
        spacing: Sequence[float] | None = None,
        dimensions: int | None = None,
        is_normalized: bool = False,
    ):
        pixels = np.asarray(image)
        if dimensions in (None, 2) and pixels.ndim == 3 and pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        dimensions = _dimensions(pixels, dimensions)
        _check_values(pixels)
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8)
        if not pixels.dtype.isnative:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        self.shape: tuple[int, ...] = pixels.shape[:dimensions]
        self.spec = spec
        self.order = spec.axes(dimensions)
        given = _check_spacing(spacing, dimensions)
        self._spacing = None if given is None else tuple(given[axis] for axis in self.order)
        pixels = pixels[..., None] if pixels.ndim == dimensions else pixels
        pixels = pixels.transpose([*self.order, dimensions])
        if spec.image_channels == 1 and pixels.shape[-1] == 3:
            pixels = luminance(pixels)
        self._pixels = pixels
        if is_normalized:
            self._normalization: Normalization | None = Normalization.none(pixels.shape[:-1], pixels.shape[-1])
        else:
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
