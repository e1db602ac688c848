"""The networks of a bundle, computed by OpenVINO."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import tee
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.inference.bundle import Bundle, choose_precision
from nnsam.inference.engine import CompiledNetwork, Engine, default_cache_dir
from nnsam.inference.sam_picture import legacy_picture, robust_picture
from nnsam.prompts.box_model import BoxModelSpec

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


_PICTURES = {"robust": robust_picture, "legacy": legacy_picture}
Patches = NDArray[np.float32]


class Networks:
    """All networks of a bundle, or those of some folds.

    The SAM branch is computed once per content, see :class:`EmbeddingCache`. A bundle's fused
    network, SAM branch and U-Net in one, is used where it is there, the precision is not int8 and there is only
    one fold: several folds share the embedding, which is quicker.

    To be used from one thread at a time.

    Args:
        bundle: the model.
        precision: "auto", "f32", "bf16" or "int8"; see :func:`nnsam.inference.bundle.choose_precision`.
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.
        cache: keep compiled networks on disk for the next process; see :mod:`nnsam.inference.engine`.
        folds: names of folds; all by default.
        embedding_megabytes: memory for embeddings that may be needed again.

    Attributes:
        bundle: see above.
        precision: the one in use, "f32", "bf16" or "int8".
        note: a sentence where "auto" could not be followed, else "".
        folds: names of the folds in use.
        outputs: number of channels of the logits.

    Raises:
        InputError: unknown precision or fold; on first use, a network that OpenVINO cannot read.
        SetupError: OpenVINO is not installed, or this CPU does not compute the precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "auto",
        threads: int = 0,
        cache: bool = True,
        folds: Sequence[str | int] | None = None,
        embedding_megabytes: float = 256,
    ):
        manifest = bundle.manifest
        self.bundle = bundle
        self.outputs = int(manifest["labels"]["outputs"])
        chosen = _choose_folds(bundle, folds)
        self.folds = [str(entry["fold"]) for entry in chosen]
        self.precision, self.note = choose_precision(bundle, precision)
        self._engine = Engine(self.precision, threads, default_cache_dir() if cache else None)
        encoder = manifest["networks"]["image_encoder"]
        self._fused = self.precision != "int8" and len(chosen) == 1 and bool(chosen[0].get("fused"))
        self._encoder: CompiledNetwork | None = None
        self._embeddings: EmbeddingCache | None = None
        self._input: dict[str, Any] | None = encoder
        if encoder is not None and not self._fused:
            self._encoder = self._compile(self._quantized(encoder) or encoder["file"])
            self._embeddings = EmbeddingCache(self._embed, embedding_megabytes)
        self._networks = [
            self._compile(entry["fused"] if self._fused else self._quantized(entry) or entry["unet"])
            for entry in chosen
        ]

    @property
    def embeddings_computed(self) -> int:
        """How many times the SAM branch has computed a patch; 0 without one, or where it is part of a fused network."""
        return self._embeddings.computed if self._embeddings is not None else 0

    def __call__(self, fold: int, patches: Patches) -> Patches:
        """Returns the logits (B, outputs, *patch) of (B, C, *patch), in nnU-Net's normalisation.

        Args:
            fold: index into `folds`.
            patches: box networks take image and prompt channels.

        Raises:
            InputError: nan or infinite values.
        """
        return next(self.stream(fold, [patches]))

    def stream(self, fold: int, patches: Iterable[Patches]) -> Iterator[Patches]:
        """Yields the logits of each batch, in order; the next ones are prepared while one is computed.

        Args:
            fold: index into `folds`.
            patches: batches (B, C, *patch), of any and differing B; drawn ahead of the results by two at most.

        Raises:
            InputError: nan or infinite values.
        """
        return self._networks[fold].stream(self._inputs(batch) for batch in patches)

    def _inputs(self, patches: Patches) -> tuple[Patches, ...]:
        patches = np.asarray(patches, dtype=np.float32)
        # One NaN pixel makes a whole prediction background without a word.
        if not np.isfinite(patches).all():
            raise InputError(
                "an image contains NaN or infinite values (found after normalisation), so nothing can be predicted; "
                "expected finite intensities: replace these values in the image file"
            )
        if self._input is None:
            return (patches,)
        # The SAM branch does not see the prompt channels of box networks.
        image = patches[:, : self.bundle.manifest["input"]["channels"]]
        if self._embeddings is None:
            return patches, self._picture(image)
        return patches, self._embeddings(image)

    def _embed(self, image: Patches) -> Patches:
        assert self._encoder is not None
        return self._encoder(self._picture(image))

    def _picture(self, image: Patches) -> Patches:
        assert self._input is not None
        return _PICTURES[self._input["input"]](image, int(self._input["size"]))

    def _quantized(self, entry: dict[str, Any]) -> str | None:
        return entry.get("int8") if self.precision == "int8" else None

    def _compile(self, name: str) -> CompiledNetwork:
        files = self.bundle.manifest["files"]
        weights = name.removesuffix(".xml") + ".bin"
        return self._engine.compile(self.bundle.path(name), files[name] + files.get(weights, ""))


def _choose_folds(bundle: Bundle, wanted: Sequence[str | int] | None) -> list[dict[str, Any]]:
    entries = bundle.manifest["networks"]["folds"]
    if wanted is None:
        return list(entries)
    by_name = {str(entry["fold"]): entry for entry in entries}
    names = list(dict.fromkeys(str(name) for name in wanted))
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise InputError(
            f"{bundle.folder} has no fold {', '.join(missing) or '(none given)'}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in names]


class OpenVINOBackend:
    """Runs the box model of a bundle as :class:`nnsam.inference.backend.Backend`; folds are averaged.

    To be used from one thread at a time.

    Args:
        bundle: of the kind "box".
        precision: see :class:`nnsam.inference.openvino_backend.Networks`.
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
