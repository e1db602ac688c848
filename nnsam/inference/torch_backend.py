"""The networks of a model folder, computed by PyTorch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsam.errors import InputError, SetupError
from nnsam.inference.backend import EmbeddingCache, Patches, checked
from nnsam.support.device import choose_device
from nnsam.support.openvino import check_precision, check_threads, has_bfloat16

if TYPE_CHECKING:
    import torch

    from nnsam.nnunet.model_folder import Folds


class TorchBackend:
    """Runs networks as :class:`nnsam.inference.backend.Backend`.

    Args:
        networks: one per fold, without deep supervision, (B, C, *patch) -> (B, outputs, *patch) logits; a network, or a
            sequence of such; put into evaluation mode and onto the device.
        manifest: describes the model, see :func:`nnsam.nnunet.description.describe`; of box models
            :meth:`nnsam.prompts.box_model.BoxModelSpec.to_manifest` says enough.
        device: "cpu", "cuda", "cuda:1", "mps", a torch.device, or "auto": the GPU where there is one.
        precision: "f32"; "bf16"; or "auto": bf16 on CPUs that have instructions for it, f32 everywhere else.
        threads: of the CPU, for the whole process; 0 leaves PyTorch's number alone.
        note: a sentence about how the networks were chosen, "" where there is nothing to tell.

    Attributes:
        manifest: see above.
        folds: names of the folds.
        outputs: number of channels of the logits.
        device: torch.device that the networks are on.
        precision: "f32" or "bf16".
        note: see above.

    Raises:
        InputError: unknown device or precision, or a negative number of threads.
    """

    def __init__(
        self,
        networks: "torch.nn.Module | Sequence[torch.nn.Module]",
        manifest: Mapping[str, Any],
        *,
        device: "str | torch.device" = "cpu",
        precision: str = "f32",
        threads: int = 0,
        note: str = "",
    ):
        several: Any = networks if isinstance(networks, list | tuple) else [networks]
        self.manifest, self.note = manifest, note
        self.outputs = int(manifest["labels"]["outputs"])
        names = manifest["model"].get("folds", ())
        self.folds = [str(name) for name in (names if len(names) == len(several) else range(len(several)))]
        self.device = choose_device(device, mps=len(manifest["tiling"]["patch_size"]) == 2)
        self.precision = _choose_precision(precision, self.device)
        check_threads(threads)
        if threads:
            import torch

            torch.set_num_threads(threads)
        self._networks: list[Any] = [network.to(self.device).eval() for network in several]

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        folds: "Folds | None" = None,
        checkpoint: str | None = None,
        device: "str | torch.device" = "cpu",
        precision: str = "f32",
        threads: int = 0,
        *,
        kind: str | None = None,
    ) -> "TorchBackend":
        """Loads a trained model from nnU-Net's model folder.

        Args:
            folder: holds plans.json, dataset.json and fold_X.
            folds: number, "all", or several, which are averaged; None: of automatic models those that
                nnUNetv2_predict uses (all numbered ones, else fold_all); of box models "all" where there is one, else
                the lowest with a checkpoint. `note` says which one of several.
            checkpoint: file name within fold_X; None for checkpoint_final.pth.
            device: see the class.
            precision: see the class.
            threads: see the class.
            kind: "automatic" or "box" where only one will do.

        Raises:
            InputError: no such model, an incomplete one, one of the other kind, or one that needs more than
                :func:`nnsam.nnunet.description.describe` can say.
            SetupError: PyTorch or nnU-Net is not installed.
        """
        from nnsam.nnunet.description import describe
        from nnsam.nnunet.model_folder import load_trained_model

        if check_precision(precision) == "int8":
            raise InputError(
                f"{folder} is a model folder, which has no int8 network; export it first with `nnsam export`"
            )
        try:
            model = load_trained_model(folder, folds, checkpoint)
            if kind == "box" and not model.is_box:
                raise InputError(f"{folder} is a model of {model.trainer}; box prompts need one of nnSAMBoxTrainer")
            if kind == "automatic" and model.is_box:
                raise InputError(f"{folder} is a box model, of {model.trainer}; use it with `nnsam segment` and boxes")
            manifest = describe(model)
            networks = [network for _, network in model.networks()]
        except ModuleNotFoundError as error:
            raise SetupError(
                f"{folder} is a trained model folder, which needs the package {error.name}; install nnsam with PyTorch "
                "and nnU-Net, or give a bundle, made with `nnsam export` where they are installed"
            ) from None
        backend = cls(networks, manifest, device=device, precision=precision, threads=threads, note=model.note)
        backend._share_embeddings()
        return backend

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the description and of all weights."""
        total = hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode())
        for network in self._networks:
            for name, tensor in network.state_dict().items():
                total.update(name.encode())
                total.update(tensor.cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def stream(self, fold: int, batches: Iterable[Patches]) -> Iterator[Patches]:
        """Yields the logits of each batch, in order; see :meth:`nnsam.inference.backend.Backend.stream`."""
        import torch

        network = self._networks[fold]
        for batch in batches:
            with torch.inference_mode(), self._autocast(network):
                logits = network(torch.from_numpy(np.ascontiguousarray(checked(batch))).to(self.device))
            yield logits.float().cpu().numpy()

    def _autocast(self, network: Any) -> AbstractContextManager:
        if hasattr(network, "cpu_autocast"):  # knows best what of it to compute in bfloat16
            return _switched(network, self.precision == "bf16")
        if self.precision != "bf16":
            return nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _share_embeddings(self) -> None:
        """Lets folds with the same frozen encoder compute each embedding once."""
        import torch

        branches: list[Any] = [getattr(network, "sam", None) for network in self._networks]
        if len(branches) < 2 or self.device.type != "cpu" or not _are_equal(branches):
            return
        cache = EmbeddingCache(lambda pictures: branches[0].embed(torch.from_numpy(pictures)).float().numpy())
        for branch in branches:
            branch.runtime = lambda picture: torch.from_numpy(cache(picture.float().numpy()))


def _choose_precision(name: str, device: "torch.device") -> str:
    precision = check_precision(name)
    if precision == "int8":
        raise InputError("a network of PyTorch is not computed in int8; expected f32, bf16 or auto")
    if precision == "auto":
        return "bf16" if device.type == "cpu" and has_bfloat16() else "f32"
    return precision


@contextmanager
def _switched(network: Any, bfloat16: bool) -> Iterator[None]:
    """Switches a network's trainable part to bfloat16, or to float32, and back to what it was."""
    before = network.cpu_autocast
    network.cpu_autocast = bfloat16
    try:
        yield
    finally:
        network.cpu_autocast = before


def _are_equal(modules: Sequence[Any]) -> bool:
    import torch

    if any(module is None for module in modules):
        return False
    first, *others = (module.state_dict() for module in modules)
    return all(
        first.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in first.items())
        for other in others
    )
