"""The networks of a bundle, computed by OpenVINO."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nnsam.errors import InputError, NnsamWarning
from nnsam.inference.backend import EmbeddingCache, Patches, checked
from nnsam.inference.bundle import Bundle, choose_precision
from nnsam.inference.engine import CompiledNetwork, Engine, default_cache_dir
from nnsam.inference.sam_picture import legacy_picture, robust_picture

_PICTURES = {"robust": robust_picture, "legacy": legacy_picture}


# What a trainer's name holds whose encoder is random on purpose, a control.
_RANDOM_BY_DESIGN = "RandomEncoder"


def warn_of_random_weights(bundle: Bundle) -> None:
    """Warns where the SAM branch of a bundle has random weights though it is meant to carry SAM's."""
    model = bundle.manifest["model"]
    if (model.get("sam_weights") or {}).get("kind") == "random" and _RANDOM_BY_DESIGN not in model.get("trainer", ""):
        warnings.warn(
            f"the SAM branch of the model in {bundle.folder} has RANDOM weights, not SAM's", NnsamWarning, stacklevel=3
        )


class OpenVINOBackend:
    """All networks of a bundle, or those of some folds, as :class:`nnsam.inference.backend.Backend`.

    The SAM branch is computed once per content, see :class:`nnsam.inference.backend.EmbeddingCache`. A bundle's fused
    network, SAM branch and U-Net in one, is used where it is there, the precision is not int8 and there is only
    one fold: several folds share the embedding, which is quicker.

    To be used from one thread at a time.

    Args:
        bundle: the model.
        precision: "auto", "f32", "bf16" or "int8"; see :func:`nnsam.inference.bundle.choose_precision`.
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.
        cache: keep compiled networks on disk for the next process; see :mod:`nnsam.inference.engine`.
        folds: name or names of folds; all by default.
        embedding_megabytes: memory for embeddings that may be needed again.

    Attributes:
        bundle: see above.
        manifest: the bundle's.
        precision: the one in use, "f32", "bf16" or "int8".
        note: a sentence where "auto" could not be followed, else "".
        folds: names of the folds in use.
        outputs: number of channels of the logits.

    Raises:
        InputError: unknown precision or fold; on first use, a network that OpenVINO cannot read.
        SetupError: OpenVINO is not installed, or this CPU does not compute the precision.

    Warns:
        NnsamWarning: the SAM branch has random weights.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "auto",
        threads: int = 0,
        cache: bool = True,
        folds: str | int | Sequence[str | int] | None = None,
        embedding_megabytes: float = 256,
    ):
        self.bundle, self.manifest = bundle, bundle.manifest
        manifest = bundle.manifest
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
        warn_of_random_weights(bundle)  # after what refuses an option

    @property
    def digest(self) -> str:
        """The bundle's, see :attr:`nnsam.inference.bundle.Bundle.digest`."""
        return self.bundle.digest

    @property
    def embeddings_computed(self) -> int:
        """How many times the SAM branch has computed a patch; 0 without one, or where it is part of a fused network."""
        return self._embeddings.computed if self._embeddings is not None else 0

    def stream(self, fold: int, batches: Iterable[Patches]) -> Iterator[Patches]:
        """Yields the logits of each batch, in order; the next ones are prepared while one is computed.

        Args:
            fold: index into `folds`.
            batches: (B, C, *patch), of any and differing B; drawn ahead of the results by two at most.

        Raises:
            InputError: nan or infinite values.
        """
        return self._networks[fold].stream(self._inputs(batch) for batch in batches)

    def _inputs(self, patches: Patches) -> tuple[Patches, ...]:
        patches = checked(patches)
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


def _choose_folds(bundle: Bundle, wanted: str | int | Sequence[str | int] | None) -> list[dict[str, Any]]:
    entries = bundle.manifest["networks"]["folds"]
    if wanted is None:
        return list(entries)
    by_name = {str(entry["fold"]): entry for entry in entries}
    names = list(
        dict.fromkeys(map(str, wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]))
    )
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise InputError(
            f"{bundle.folder} has no fold {', '.join(missing) or '(none given)'}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in names]
