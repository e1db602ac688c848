"""Resampling to another voxel size, as nnU-Net's preprocessing and export do it.

`resample_data_or_seg_to_shape` gives nnU-Net's values to the last bit: it is SciPy's `zoom` in double precision,
limited to the range of the image, and rounded to the type of the image. Volumes of thick slices are resampled slice by
slice, and the nearest slice is taken along the coarse axis.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.support.concurrency import ordered_map


def linear(image: NDArray, shape: Sequence[int]) -> NDArray[np.float32]:
    """Returns an image resampled linearly, one axis after the other.

    Args:
        image: any number of axes; half precision is computed and returned in single precision.
        shape: of the result.
    """
    result = image.astype(np.float32, copy=False)
    for axis, size in enumerate(shape):
        count = result.shape[axis]
        if count != size:
            position = np.maximum(0, _scale(count, size) * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - 0.5)
            low = np.minimum(position.astype(np.intp), count - 1)
            share = (position - low).astype(np.float32)
            share = share.reshape(-1, *[1] * (result.ndim - axis - 1))
            high = np.take(result, np.minimum(low + 1, count - 1), axis=axis)
            high *= share
            result = np.take(result, low, axis=axis)
            result *= 1 - share
            result += high
    return result


def nearest(image: NDArray, size: int, axis: int) -> NDArray[np.float32]:
    """Returns an image resampled along one axis to the nearest slices, in single precision."""
    return np.take(image, nearest_slices(image.shape[axis], size), axis=axis).astype(np.float32, copy=False)


def nearest_slices(count: int, size: int) -> NDArray[np.intp]:
    """Returns which of `count` slices is shown by each of `size`, PyTorch's "nearest-exact"."""
    # Ties depend on the last bit: PyTorch rounds scale * (i + 0.5) - 0.5 to float32 once (fused), then adds 0.5.
    position = (np.float64(_scale(count, size)) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    return np.minimum(np.floor(position + np.float32(0.5)).astype(np.intp), count - 1)


def _scale(count: int, size: int) -> np.float32:
    return np.float32(count) / np.float32(size)


SPLINE = "resample_data_or_seg_to_shape"
LINEAR = "resample_torch_fornnunet"
NONE = "no_resampling_hack"
FUNCTIONS = (SPLINE, LINEAR, NONE)
# A volume counts as one of thick slices where its voxels are longer than wide by more than this.
ANISOTROPY = 3
# More voxels than this per channel are taken for a wrong voxel size.
_MOST_VOXELS = 2**32


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Returns how many voxels an image has at another voxel size.

    Args:
        shape: voxels per axis.
        spacing: their size.
        target: the size wanted, in the same unit.

    Raises:
        InputError: no voxel would be left along an axis, or far too many would be needed.
    """
    new = tuple(round(old / wanted * count) for old, wanted, count in zip(spacing, target, shape, strict=True))
    if min(new) < 1 or np.prod(new, dtype=float) > _MOST_VOXELS:
        raise InputError(
            f"without the zeros around it, the image has {' x '.join(map(str, shape))} voxels of "
            f"{_sizes(spacing)} and would have {' x '.join(map(str, new))} of the model's size {_sizes(target)}; "
            "check the image's voxel size"
        )
    return new


def coarse_axis(
    spacing: Sequence[float], target: Sequence[float], force: bool | None = None, threshold: float = ANISOTROPY
) -> int | None:
    """Returns the axis along which slices are kept apart, None for all axes alike.

    Args:
        spacing: present voxel size, 3 values; it decides where it is uneven.
        target: voxel size wanted; decides otherwise.
        force: True or False to decide without the threshold.
        threshold: ratio of the greatest to the least size above which an image counts as one of slices.
    """
    deciding = None
    if force:
        deciding = spacing
    elif force is None:
        deciding = next((sizes for sizes in (spacing, target) if max(sizes) / min(sizes) > threshold), None)
    if deciding is None:
        return None
    coarsest = [axis for axis, size in enumerate(deciding) if max(deciding) / size == 1]
    return coarsest[0] if len(coarsest) == 1 else None


@dataclass(frozen=True)
class Resampling:
    """How a model's images, or its results, are resampled.

    Attributes:
        function: name in nnU-Net, one of `FUNCTIONS`.
        order: of the spline; of that along the coarse axis: `order_z`.
        force_separate_z: whether slices are kept apart; None where voxel sizes decide.
        threshold: see :func:`coarse_axis`.
    """

    function: str = SPLINE
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    threshold: float = ANISOTROPY

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Resampling":
        """Reads the settings of a bundle: "function" and what nnU-Net's plans give it.

        Raises:
            InputError: a function or a mode that is not known here.
        """
        function = settings["function"]
        if function not in FUNCTIONS:
            raise InputError(
                f"the model resamples with {function}, which nnsam does not know; expected one of "
                f"{', '.join(FUNCTIONS)}: predict with nnUNetv2_predict"
            )
        modes = settings.get("mode", "linear"), settings.get("aniso_axis_mode", "nearest-exact")
        if function == LINEAR and modes != ("linear", "nearest-exact"):
            raise InputError(
                f"the model resamples with {LINEAR} in the modes {' and '.join(modes)}; nnsam knows linear and "
                "nearest-exact: predict with nnUNetv2_predict"
            )
        return cls(
            function,
            int(settings.get("order", 3)),
            int(settings.get("order_z", 0)),
            settings.get("force_separate_z", None if function == LINEAR else False),
            float(settings.get("separate_z_anisotropy_threshold", ANISOTROPY)),
        )

    def changes(self, shape: Sequence[int], new_shape: Sequence[int]) -> bool:
        """Tells whether an image of a shape is changed at all."""
        return self.function != NONE and tuple(shape) != tuple(new_shape)

    def __call__(
        self,
        image: NDArray,
        shape: Sequence[int],
        spacing: Sequence[float],
        target: Sequence[float],
        threads: int = 1,
    ) -> NDArray:
        """Resamples all channels.

        Args:
            image: (C, z, y, x), single or half precision.
            shape: (z, y, x) of the result.
            spacing: voxel size of the image, 3 values.
            target: voxel size of the result.
            threads: how many channels or slices are computed at once.

        Returns:
            (C, *shape), the image itself where nothing is to be done. The image's type, but single precision after
            `resample_torch_fornnunet`.
        """
        if not self.changes(image.shape[1:], shape):
            return image
        result = np.empty((len(image), *shape), dtype=self.dtype(image.dtype))
        for channel, resampled in enumerate(self.channels(image, shape, spacing, target, threads)):
            result[channel] = resampled
        return result

    def dtype(self, dtype: np.dtype) -> np.dtype:
        """Returns the type of the result for an image that is changed."""
        return np.dtype(np.float32) if self.function == LINEAR else dtype

    def channels(
        self,
        image: NDArray,
        shape: Sequence[int],
        spacing: Sequence[float],
        target: Sequence[float],
        threads: int = 1,
    ) -> Iterator[NDArray]:
        """Yields the channels that calling would return, one at a time, (z, y, x) each."""
        if not self.changes(image.shape[1:], shape):
            yield from image
            return
        axis = coarse_axis(spacing, target, self.force_separate_z, self.threshold)
        if axis is not None and self.function == SPLINE and self.order_z == 0:
            for channel in image:
                yield _by_slices(channel, shape, axis, self.order, threads)
        else:
            yield from ordered_map(self._channel(tuple(shape), axis), image, threads)

    def _channel(self, shape: tuple[int, ...], axis: int | None) -> Callable[[NDArray], NDArray]:
        if self.function == LINEAR:
            if axis is None:
                return lambda channel: linear(channel, shape)
            return lambda channel: _linear_slices(channel, shape, axis)
        if axis is None:
            return lambda channel: zoomed(channel, shape, self.order)
        return lambda channel: _curved(channel, shape, axis, self.order, self.order_z)


def zoomed(image: NDArray, shape: Sequence[int], order: int) -> NDArray:
    """Returns an image resampled by a spline, of the image's type.

    Args:
        image: any number of axes, half or single precision, or double.
        shape: of the result.
        order: of the spline, 0 to 5.
    """
    from scipy.ndimage import zoom

    source = image.astype(np.float32) if image.dtype == np.float16 else image
    factors = [1 / factor for factor in np.divide(image.shape, shape)]
    # Single precision is kept: SciPy computes in double anyway, and rounding and limiting may change places. Half
    # precision must be rounded from double directly, because rounding twice differs.
    precision = np.float64 if image.dtype == np.float16 else image.dtype
    result = zoom(source, factors, output=precision, order=order, mode="nearest", grid_mode=True)
    np.clip(result, source.min(), source.max(), out=result)
    return result.astype(image.dtype, copy=False)


def _by_slices(image: NDArray, shape: Sequence[int], axis: int, order: int, threads: int) -> NDArray:
    """Resamples within slices and takes the nearest slice along the coarse axis."""
    result = np.empty(shape, dtype=image.dtype)
    source, drawn = np.moveaxis(image, axis, 0), np.moveaxis(result, axis, 0)
    position = len(source) / len(drawn) * (np.arange(len(drawn)) + 0.5) - 0.5
    nearest_slice = np.floor(np.clip(position, 0, len(source) - 1) + 0.5).astype(int)
    needed = np.unique(nearest_slice)
    plane = drawn.shape[1:]
    for index, resampled in zip(
        needed, ordered_map(lambda index: zoomed(source[index], plane, order), needed, threads), strict=True
    ):
        drawn[nearest_slice == index] = resampled
    return result


def _curved(image: NDArray, shape: tuple[int, ...], axis: int, order: int, order_z: int) -> NDArray:
    """Resamples within slices and by a spline along the coarse axis; computed in double precision."""
    from scipy.ndimage import map_coordinates

    source = np.moveaxis(image, axis, 0).astype(np.float64)
    plane = [size for other, size in enumerate(shape) if other != axis]
    # The axes keep their order: SciPy filters and sums axis after axis, and another order rounds differently.
    slices = np.stack([zoomed(part, plane, order) for part in source], axis)
    count, size = slices.shape[axis], shape[axis]
    if count != size:
        positions = [np.arange(length, dtype=float) for length in shape]
        positions[axis] = count / size * (positions[axis] + 0.5) - 0.5
        grid = np.array(np.meshgrid(*positions, indexing="ij"))
        slices = map_coordinates(slices, grid, order=order_z, mode="nearest")
    return slices.astype(image.dtype)


def _linear_slices(image: NDArray, shape: tuple[int, ...], axis: int) -> NDArray[np.float32]:
    within = list(shape)
    within[axis] = image.shape[axis]
    return nearest(linear(image, within), shape[axis], axis)


def _sizes(spacing: Sequence[float]) -> str:
    return " x ".join(f"{float(size):g}" for size in spacing)
