"""Box networks computed by PyTorch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.nnunet.model_folder import load_trained_model
from nnsam.prompts.box_model import BoxModelSpec

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "auto")


class TorchBackend:
    """Runs one network, or several whose probabilities are averaged, as :class:`nnsam.inference.backend.Backend`.

    Args:
        networks: a network of `nnSAMBoxTrainer` and its relatives without deep supervision, (B, C + P, h, w) ->
            (B, 2, h, w) logits, or a sequence of such; put into evaluation mode and onto the device.
        spec: describes them.
        device: "cpu", "cuda", "cuda:1", or a torch.device.
        precision: "float32"; "bfloat16" on the CPU (ignored on others); "auto": bfloat16 on CPUs that have it.
        note: a sentence about how the networks were chosen, "" where there is nothing to tell.

    Attributes:
        spec: see above.
        passes: number of patches computed so far; with several networks each patch counts once.
        note: see above.

    Raises:
        InputError: unknown device or precision.
    """

    def __init__(
        self,
        networks: "torch.nn.Module | Sequence[torch.nn.Module]",
        spec: BoxModelSpec,
        *,
        device: "str | torch.device" = "cpu",
        precision: str = "float32",
        note: str = "",
    ):
        self.spec, self.note, self.passes = spec, note, 0
        self._device = _checked_device(device)
        self._bfloat16 = _wants_bfloat16(precision, self._device)
        several: Any = networks if isinstance(networks, list | tuple) else [networks]
        self._networks: list[Any] = [network.to(self._device).eval() for network in several]

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        fold: int | str | Sequence[int | str] | None = None,
        checkpoint: str = "checkpoint_final.pth",
        device: "str | torch.device" = "cpu",
        precision: str = "float32",
    ) -> "TorchBackend":
        """Loads a trained model from nnU-Net's model folder.

        Args:
            folder: holds plans.json, dataset.json and fold_X.
            fold: number, "all", or several, which are averaged; by default "all" where there is one, else the lowest
                with a checkpoint (`note` then says which one of several).
            checkpoint: file name within fold_X.
            device: see the class.
            precision: see the class.

        Raises:
            InputError: no such model, an incomplete one, or one of another trainer.
        """
        model = load_trained_model(folder, fold, checkpoint)
        if model.box is None:
            raise InputError(f"{folder} is a model of {model.trainer}; box prompts need one of nnSAMBoxTrainer")
        networks = [network for _, network in model.networks()]
        return cls(networks, model.box, device=device, precision=precision, note=model.note)

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the object's probability, (B, h, w) in 0..1, for (B, C + P, h, w)."""
        import torch

        self.passes += len(patches)
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32)).to(self._device)
            total = None
            for network in self._networks:
                with _precision(network, self._bfloat16):
                    logits = network(batch).float()
                # Softmax over two classes.
                probability = torch.sigmoid(logits[:, 1] - logits[:, 0])
                total = probability if total is None else total + probability
            assert total is not None
            return (total / len(self._networks)).cpu().numpy()


@contextmanager
def _precision(network: Any, bfloat16: bool) -> Iterator[None]:
    """Switches a network's trainable part to bfloat16, or to float32, and back to what it was."""
    before = getattr(network, "cpu_autocast", False)
    network.cpu_autocast = bfloat16
    try:
        yield
    finally:
        network.cpu_autocast = before


def _checked_device(device: "str | torch.device") -> "torch.device":
    import torch

    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"the device {device!r} is unknown; expected cpu or cuda") from None
    if checked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"the device {device!s} was asked for, but PyTorch finds no GPU here; use cpu")
    return checked


def _wants_bfloat16(precision: str, device: "torch.device") -> bool:
    if precision not in PRECISIONS:
        raise InputError(f"the precision {precision!r} is unknown; expected {', '.join(PRECISIONS)}")
    if device.type != "cpu" or precision == "float32":
        return False
    if precision == "bfloat16":
        return True
    from nnsam.support.openvino import has_bfloat16

    return has_bfloat16()
