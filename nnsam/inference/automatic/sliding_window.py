"""The network's answer for a whole image, from overlapping tiles: nnU-Net's sliding window in NumPy.

Sums are kept in half precision, as nnU-Net keeps them; each addition is computed in single precision and rounded, in
nnU-Net's order, so that the result is nnU-Net's to the last bit given the same answers for the tiles.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamError
from nnsam.inference.tiles import STEP, Tile, gaussian, mirrorings, padding, tile_at, tile_starts

# A batch holds at most so many voxels and so many patches: larger ones cost memory and are not faster.
_BATCH_VOXELS = 2**20
_BATCH_PATCHES = 8
Mirroring = tuple[int, ...]


class FoldNetworks(Protocol):
    """The networks of a model, one per fold; see :class:`nnsam.inference.openvino_backend.Networks`."""

    @property
    def folds(self) -> Sequence[str]:
        """Names of the folds."""

    @property
    def outputs(self) -> int:
        """Number of the network's outputs, O."""

    def stream(self, fold: int, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yields the logits (B, O, *patch) of batches of patches (B, C, *patch), in order."""


class PredictionCancelled(NnsamError):
    """The prediction was stopped on request."""


def predict_logits(
    data: NDArray[np.float32],
    networks: FoldNetworks,
    manifest: Mapping[str, Any],
    *,
    mirror: bool = True,
    step: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float16]:
    """Computes an image's logits, the mean of all folds.

    Args:
        data: (C, z, y, x), as :func:`nnsam.inference.automatic.preprocessing.preprocess` returns it.
        networks: of the bundle.
        manifest: of the bundle.
        mirror: whether to average over mirrored versions of each tile, where the model allows it.
        step: greatest distance of two tiles, in tiles; None for the model's.
        progress: told the number of tiles done and that of all tiles, after each tile.
        cancelled: asked before each tile whether to stop.

    Returns:
        (O, z, y, x), half precision.

    Raises:
        InputError: the network's answers are not finite, or `step` is not in (0, 1].
        PredictionCancelled: `cancelled` returned true.
    """
    tiling = manifest["tiling"]
    step = tiling.get("step", STEP) if step is None else step
    if not 0 < step <= 1:
        raise InputError(f"the tile step is {step}; expected more than 0 and at most 1")
    patch_size = tuple(tiling["patch_size"])
    margins = padding(data.shape[1:], patch_size)
    if any(before or after for before, after in margins):
        data = np.pad(data, [(0, 0), *margins])
    tiles = [tile_at(start, patch_size) for start in tile_starts(data.shape[1:], patch_size, step)]
    variants = mirrorings(tiling["mirror_axes"] if mirror else None)
    weights = _Weights(data.shape[1:], tiles, gaussian(patch_size, tiling.get("gaussian_sigma", 1 / 8)))
    report = _Report(len(tiles) * len(networks.folds), progress, cancelled)
    folds = (_answers(networks, fold, data, tiles, variants, report) for fold in range(len(networks.folds)))
    total = _mean(weights.mean(answers, networks.outputs) for answers in folds)
    z, y, x = (slice(low, size - high) for (low, high), size in zip(margins, data.shape[1:], strict=True))
    return total[:, z, y, x]


def batch_size(patch_size: Sequence[int], variants: int = 1) -> int:
    """Returns how many patches are given to the network at once.

    Args:
        patch_size: 2 or 3 values.
        variants: mirrored versions of each tile, which stay together where they are not too large.
    """
    count = max(1, min(_BATCH_PATCHES, _BATCH_VOXELS // int(np.prod(patch_size))))
    return count // variants * variants if count >= variants else count


class _Report:
    """Counts tiles, passes the count on, and stops on request."""

    def __init__(
        self, total: int, progress: Callable[[int, int], None] | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self._done, self._total = 0, total
        self._progress, self._cancelled = progress, cancelled

    def check(self) -> None:
        if self._cancelled is not None and self._cancelled():
            raise PredictionCancelled("the prediction was cancelled")

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


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
    networks: FoldNetworks,
    fold: int,
    data: NDArray[np.float32],
    tiles: Sequence[Tile],
    variants: Sequence[Mirroring],
    report: _Report,
) -> Iterator[NDArray[np.float32]]:
    """Yields the answer for each tile, (O, *patch): the mean of its mirrored versions."""
    patches = (_mirrored(_all_channels(data, tile), axes) for tile in tiles for axes in variants)
    patch_size = _all_channels(data, tiles[0]).shape[1:]
    stream = networks.stream(fold, _batches(patches, batch_size(patch_size, len(variants))))
    with closing(_single(stream)) as singles:
        for _ in tiles:
            report.check()
            answer = next(singles).astype(np.float32)  # a copy: the network's own memory is not written to
            for axes in variants[1:]:
                answer += _mirrored(next(singles), axes)
            if len(variants) > 1:
                answer /= len(variants)
            yield answer
            report.step()


def _mean(folds: Iterator[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Averages the folds' logits, of which at most two are in memory; the first ones are written to."""
    total, count = next(folds), 1
    for logits in folds:
        _half(np.add, total, logits, total)
        count += 1
    return _half(np.divide, total, np.float32(count), total) if count > 1 else total


def _batches(patches: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    waiting: list[NDArray[np.float32]] = []
    for patch in patches:
        waiting.append(patch)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _single(stream: Iterator[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
    try:
        for batch in stream:
            yield from batch
    finally:
        # Requests under way are given up when the image is.
        if hasattr(stream, "close"):
            stream.close()


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
