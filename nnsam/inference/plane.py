"""One slice or picture, from which normalised patches of any part and scale are cut."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from nnsam.geometry.boxes import shift
from nnsam.inference.statistics import Normalization
from nnsam.prompts.zoom import CONTEXT

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
