"""Embeddings of what the SAM branch has seen lately."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]


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
