"""A box model's networks as one function: from patches to the object's probability."""

from collections.abc import Iterable, Iterator
from itertools import tee

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.inference.backend import Backend, Patches, run_batched
from nnsam.prompts.box_model import BoxModelSpec


class BoxNetwork:
    """Averages the probabilities of a backend's folds.

    Args:
        backend: computes the folds' networks.
        batch_size: patches per call of the backend.

    Attributes:
        spec: describes the model.
        passes: number of patches computed so far; with several folds each patch counts once.

    Raises:
        InputError: no box model, or a batch size below 1.
    """

    def __init__(self, backend: Backend, batch_size: int = 8):
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; expected at least 1")
        self.spec = BoxModelSpec.from_manifest(backend.manifest)
        self.passes = 0
        self._backend, self._batch_size = backend, batch_size

    def __call__(self, patches: Iterable[Patches]) -> Iterator[NDArray[np.float32]]:
        """Yields the object's probability, (h, w) in 0..1, of each patch (C + P, h, w): image and prompt channels."""
        return run_batched(self._stream, patches, self._batch_size)

    def _stream(self, batches: Iterable[Patches]) -> Iterator[NDArray[np.float32]]:
        count = len(self._backend.folds)
        # Folds advance side by side, so that they share the embedding.
        copies = tee(batches, count)
        streams = [self._backend.stream(fold, copies[fold]) for fold in range(count)]
        for logits in zip(*streams, strict=True):
            total = object_probability(logits[0])
            for others in logits[1:]:
                total += object_probability(others)
            if count > 1:
                total /= count
            self.passes += len(total)
            yield total


def object_probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over two classes: (B, 2, h, w) logits of background and object to the object's probability (B, h, w)."""
    result = logits[:, 0] - logits[:, 1]
    # exp may become infinite or 0, and its inverse 0 or 1, as it should.
    with np.errstate(over="ignore", under="ignore"):
        np.exp(result, out=result)
    result += 1
    return np.reciprocal(result, out=result)
