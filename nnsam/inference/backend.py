"""What computes a box network, and how it is fed."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nnsam.prompts.box_model import BoxModelSpec


class Backend(Protocol):
    """Computes patches.

    It may have a method `stream`, see :func:`run_batched`.

    Attributes:
        spec: the model.
        passes: number of patches computed so far.
    """

    spec: BoxModelSpec
    passes: int

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the object's probability, (B, h, w) in 0..1, for (B, C + P, h, w): image and prompt channels."""
        ...


def run_batched(
    backend: Backend, patches: Iterable[NDArray[np.float32]], batch_size: int
) -> Iterator[NDArray[np.float32]]:
    """Yields the probability (h, w) of each patch (C + P, h, w), in order; holds a few batches at a time.

    A backend with a method `stream`, from an iterable of batches to an iterator of their results, gets all batches
    that way, so that it can compute one while the next is prepared and the last one used.
    """
    batches = _batches(patches, batch_size)
    stream = getattr(backend, "stream", None)
    for result in map(backend, batches) if stream is None else stream(batches):
        yield from result


def _batches(patches: Iterable[NDArray[np.float32]], batch_size: int) -> Iterator[NDArray[np.float32]]:
    batch: list[NDArray[np.float32]] = []
    for patch in patches:
        batch.append(patch)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
