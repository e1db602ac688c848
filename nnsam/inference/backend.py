"""What computes a model's networks: one interface for bundles and model folders, and how it is fed.

What is done with the logits, averaging of folds included, lies above it: :mod:`nnsam.inference.box` and
:mod:`nnsam.inference.automatic`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

Patches = NDArray[np.float32]


class Backend(Protocol):
    """The networks of a model, one per fold; to be used from one thread at a time."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the model does with images, as :func:`nnsam.nnunet.description.describe` and `bundle.json` say it."""
        ...

    @property
    def digest(self) -> str:
        """Identity of the model: another one where description or weights differ."""
        ...

    @property
    def folds(self) -> Sequence[str]:
        """Names of the folds in use, at least one."""
        ...

    @property
    def outputs(self) -> int:
        """Number of channels of the logits."""
        ...

    @property
    def precision(self) -> str:
        """What is computed in: "f32", "bf16" or "int8"."""
        ...

    @property
    def note(self) -> str:
        """A sentence on how folds or precision were chosen; "" where there is nothing to tell."""
        ...

    def stream(self, fold: int, batches: Iterable[Patches]) -> Iterator[Patches]:
        """Yields the logits (B, outputs, *patch) of each batch, in order, as arrays that are the caller's own.

        Args:
            fold: index into `folds`.
            batches: (B, C, *patch) in nnU-Net's normalisation, of any and differing B; those of box models have prompt
                channels behind the image's. They may be drawn a few ahead of the results, and must not be changed
                until their result is there.

        Raises:
            InputError: nan or infinite values.
        """
        ...


def run_batched(
    stream: Callable[[Iterable[Patches]], Iterator[Patches]], patches: Iterable[Patches], batch_size: int
) -> Generator[Patches, None, None]:
    """Yields the result of each patch (C, *patch), in order; holds a few batches at a time.

    Args:
        stream: from an iterable of batches to an iterator of their results, so that it can compute one while the next
            is prepared and the last one used; closed where this generator is.
        patches: without a batch's axis.
        batch_size: at most so many are given at once.
    """
    results = stream(_batches(patches, batch_size))
    try:
        for batch in results:
            yield from batch
    finally:
        # Requests under way are given up when the image is.
        if isinstance(results, Generator):
            results.close()


def _batches(patches: Iterable[Patches], size: int) -> Iterator[Patches]:
    waiting: list[Patches] = []
    for patch in patches:
        waiting.append(patch)
        if len(waiting) == size:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _stacked(patches: list[Patches]) -> Patches:
    """One batch in C order, which networks read; numpy keeps the order of patches whose axes were transposed."""
    return np.ascontiguousarray(np.stack(patches))


def checked(patches: NDArray) -> Patches:
    """Returns a batch in single precision.

    Raises:
        InputError: nan or infinite values.
    """
    patches = np.asarray(patches, dtype=np.float32)
    # One NaN pixel makes a whole prediction background without a word.
    if not np.isfinite(patches).all():
        raise InputError(
            "an image contains NaN or infinite values (found after normalisation), so nothing can be predicted; "
            "expected finite intensities: replace these values in the image file"
        )
    return patches


Embed = Callable[[Patches], Patches]


class EmbeddingCache:
    """Computes embeddings once per content: folds, boxes and tiles that show the same pixels share them.

    Not safe for several threads at a time.

    Args:
        embed: (B, C, H, W) patches -> (B, 256, s, s) embeddings.
        megabytes: what is kept takes at most so much memory; what has not been used for longest goes first. 0 keeps
            nothing.

    Attributes:
        computed: number of embeddings computed so far.
    """

    def __init__(self, embed: Embed, megabytes: float = 256):
        self._embed, self._limit = embed, int(megabytes * 2**20)
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._bytes = 0
        self.computed = 0

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the embeddings of (B, C, H, W), computing those in one batch that are not known."""
        patches = np.ascontiguousarray(patches, dtype=np.float32)
        keys = [hashlib.blake2b(patch, digest_size=16).digest() for patch in patches]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        if missing:
            new = self._embed(patches[[keys.index(key) for key in missing]])
            self.computed += len(missing)
            known.update(zip(missing, new, strict=True))
        for key in keys:
            self._keep(key, known[key])
        if len(missing) == len(keys):
            return new
        return np.stack([known[key] for key in keys])

    def _keep(self, key: bytes, embedding: NDArray[np.float32]) -> None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        if embedding.nbytes > self._limit:
            return
        # A copy: a view would keep its whole batch in memory.
        self._kept[key] = embedding.copy()
        self._bytes += embedding.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
