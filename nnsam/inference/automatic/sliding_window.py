"""The network's answer for a whole image, from overlapping tiles: nnU-Net's sliding window in NumPy.

Sums are kept in half precision, as nnU-Net keeps them; each addition is computed in single precision and rounded, in
nnU-Net's order, so that the result is nnU-Net's to the last bit given the same answers for the tiles.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.inference.backend import Backend, run_batched
from nnsam.inference.tiles import LEAST_STEP, STEP, Tile, gaussian, mirrorings, padding, tile_at, tile_starts

# A batch holds at most so many voxels and so many patches: larger ones cost memory and are not faster.
_BATCH_VOXELS = 2**20
_BATCH_PATCHES = 8
Mirroring = tuple[int, ...]


def predict_logits(
    data: NDArray[np.float32],
    backend: Backend,
    *,
    mirror: bool = True,
    step: float | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float16]:
    """Computes an image's logits, the mean of all folds.

    Args:
        data: (C, z, y, x), as :func:`nnsam.inference.automatic.preprocessing.preprocess` returns it.
        backend: the model's networks.
        mirror: whether to average over mirrored versions of each tile, where the model allows it.
        step: greatest distance of two tiles, in tiles; None for the model's.
        batch_size: patches that are given to the network at once; None for a number that suits their size.
        progress: told the number of tiles done and that of all tiles, after each tile; what it raises ends this.

    Returns:
        (O, z, y, x), half precision.

    Raises:
        InputError: the network's answers are not finite, or `step` is not in 0.01..1.
    """
    tiling = backend.manifest["tiling"]
    step = tiling.get("step", STEP) if step is None else step
    if not LEAST_STEP <= step <= 1:
        raise InputError(f"the tile step is {step}; expected {LEAST_STEP} to 1")
    patch_size = tuple(tiling["patch_size"])
    margins = padding(data.shape[1:], patch_size)
    if any(before or after for before, after in margins):
        data = np.pad(data, [(0, 0), *margins])
    tiles = [tile_at(start, patch_size) for start in tile_starts(data.shape[1:], patch_size, step)]
    variants = mirrorings(tiling["mirror_axes"] if mirror else None)
    weights = _Weights(data.shape[1:], tiles, gaussian(patch_size, tiling.get("gaussian_sigma", 1 / 8)))
    size = batch_size or patches_at_once(patch_size, len(variants))
    report = _counter(len(tiles) * len(backend.folds), progress)
    streams = (partial(backend.stream, fold) for fold in range(len(backend.folds)))
    folds = (_answers(stream, data, tiles, variants, size, report) for stream in streams)
    total = _mean(weights.mean(answers, backend.outputs) for answers in folds)
    z, y, x = (slice(low, size - high) for (low, high), size in zip(margins, data.shape[1:], strict=True))
    return total[:, z, y, x]


def patches_at_once(patch_size: Sequence[int], variants: int = 1) -> int:
    """Returns how many patches are given to the network at once.

    Args:
        patch_size: 2 or 3 values.
        variants: mirrored versions of each tile, which stay together where they are not too large.
    """
    count = max(1, min(_BATCH_PATCHES, _BATCH_VOXELS // int(np.prod(patch_size))))
    return count // variants * variants if count >= variants else count


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    """Returns what is to be called after each tile."""
    numbers = iter(range(1, total + 1))

    def count() -> None:
        done = next(numbers)
        if progress is not None:
            progress(done, total)

    return count


class _Weights:
    """The weights of all tiles, and their sum at each voxel.

    Args:
        shape: (z, y, x).
        tiles: in the order in which they are added.
        weights: of a tile, half precision.
    """

    def __init__(self, shape: tuple[int, ...], tiles: Sequence[Tile], weights: NDArray[np.float16]):
        self._tiles = tiles
        self._weights = weights.astype(np.float32)
        self._sum = np.zeros(shape, dtype=np.float16)
        for tile in tiles:
            _half(np.add, self._sum[tile], self._weights, self._sum[tile])

    def mean(self, answers: Iterable[NDArray[np.float32]], outputs: int) -> NDArray[np.float16]:
        """Returns the weighted mean of the tiles' answers (O, *patch), (O, z, y, x)."""
        total = np.zeros((outputs, *self._sum.shape), dtype=np.float16)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            for tile, answer in zip(self._tiles, answers, strict=True):
                target = _all_channels(total, tile)
                _half(np.add, target, answer * self._weights, target)
            for output in total:
                _half(np.divide, output, self._sum, output)
                if not np.isfinite(output).all():
                    raise InputError(
                        "the network's answers for this image are not finite; check the image's intensities, and try "
                        "the precision f32"
                    )
        return total


def _answers(
    stream: Callable[[Iterable[NDArray[np.float32]]], Iterator[NDArray[np.float32]]],
    data: NDArray[np.float32],
    tiles: Sequence[Tile],
    variants: Sequence[Mirroring],
    batch_size: int,
    count: Callable[[], None],
) -> Iterator[NDArray[np.float32]]:
    """Yields the answer for each tile, (O, *patch): the mean of its mirrored versions."""
    patches = (_mirrored(_all_channels(data, tile), axes) for tile in tiles for axes in variants)
    with closing(run_batched(stream, patches, batch_size)) as singles:
        for _ in tiles:
            answer = next(singles).astype(np.float32)  # a copy: the network's own memory is not written to
            for axes in variants[1:]:
                answer += _mirrored(next(singles), axes)
            if len(variants) > 1:
                answer /= len(variants)
            yield answer
            count()


def _mean(folds: Iterator[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Averages the folds' logits, of which at most two are in memory; the first ones are written to."""
    total, count = next(folds), 1
    for logits in folds:
        _half(np.add, total, logits, total)
        count += 1
    return _half(np.divide, total, np.float32(count), total) if count > 1 else total


def _all_channels(image: NDArray, tile: Tile) -> NDArray:
    """Cuts a tile out of an image with channels in front; a view."""
    index: Tile = (slice(None), *tile)
    return image[index]


def _mirrored(patch: NDArray[np.float32], axes: Mirroring) -> NDArray[np.float32]:
    """Mirrors a patch (C, *patch) along axes of which 0 is the first spatial one; a view."""
    return np.flip(patch, tuple(axis + 1 for axis in axes))


def _half(operation: np.ufunc, first: NDArray, second: Any, out: NDArray[np.float16]) -> NDArray[np.float16]:
    """Computes in single precision and rounds to half, in blocks."""
    return operation(first, second, out=out, dtype=np.float32, casting="same_kind")
