"""Box networks computed by OpenVINO."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee

import numpy as np
from numpy.typing import NDArray

from nnsam.inference.spec import BoxModelSpec
from nnsam.runtime.bundle import Bundle
from nnsam.runtime.networks import Networks


class OpenVINOBackend:
    """Runs the box model of a bundle as :class:`nnsam.inference.backend.Backend`; folds are averaged.

    To be used from one thread at a time.

    Args:
        bundle: of the kind "box".
        precision: see :class:`nnsam.runtime.networks.Networks`.
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.
        cache: keep compiled networks on disk for the next process.
        folds: names of folds; all by default.

    Attributes:
        spec: describes the model.
        passes: number of patches computed so far; with several folds each patch counts once.
        note: a sentence about the precision, "" where there is nothing to tell.
        precision: the one in use.

    Raises:
        InputError: unknown precision or fold, or files that cannot be read.
        SetupError: OpenVINO is missing, or this CPU does not compute the precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "auto",
        threads: int = 0,
        cache: bool = True,
        folds: Sequence[str | int] | None = None,
    ):
        self._networks = Networks(bundle, precision, threads, cache, folds)
        self.spec = BoxModelSpec.from_manifest(bundle.manifest)
        self.note, self.precision, self.passes = self._networks.note, self._networks.precision, 0

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the object's probability, (B, h, w) in 0..1, for (B, C + P, h, w)."""
        return next(self.stream([patches]))

    def stream(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yields the same for each batch, in order, while the next ones are prepared."""
        count = len(self._networks.folds)
        # Folds advance side by side, so that they share the embedding.
        copies = tee(batches, count)
        streams = [self._networks.stream(fold, copies[fold]) for fold in range(count)]
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
