"""One way in: whatever a trained model is kept as, the predictor that runs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError
from nnsam.inference.bundle import Bundle, is_bundle
from nnsam.nnunet.folders import fold_hint

if TYPE_CHECKING:
    import torch

    from nnsam.inference.automatic.predictor import Predictor
    from nnsam.inference.box.predictor import BoxPredictor
    from nnsam.nnunet.model_folder import Folds


def load(
    path_or_name: str | Path,
    device: "str | torch.device" = "auto",
    precision: str = "auto",
    threads: int = 0,
    *,
    folds: "Folds | None" = None,
    checkpoint: str | None = None,
    batch_size: int | None = None,
    kind: str | None = None,
) -> "BoxPredictor | Predictor":
    """Loads a trained model: a bundle of `nnsam export` or a model folder of nnU-Net, automatic or with box prompts.

    Args:
        path_or_name: the bundle or the model folder.
        device: of a model folder: "cpu", "cuda", "mps", or "auto": the GPU where there is one. Bundles run on the CPU.
        precision: "f32", "bf16" or, of bundles, "int8"; "auto": of a bundle the one that was found best at export, of
            a model folder bf16 on CPUs that have instructions for it, else f32.
        threads: of the CPU; 0 leaves the choice to PyTorch or OpenVINO.
        folds: name or names of the folds to average; None for those that `open` or `from_folder` take.
        checkpoint: of a model folder, file name within its folds; None for checkpoint_final.pth.
        batch_size: patches per call of the networks; None for the predictor's own choice.
        kind: "automatic" or "box" where only one will do.

    Returns:
        :class:`nnsam.inference.BoxPredictor` for models that want boxes, :class:`nnsam.inference.Predictor` for those
        that segment images by themselves.

    Raises:
        InputError: neither of the two, or a damaged one; an option that is not for this model.
        SetupError: PyTorch, nnU-Net or OpenVINO is missing, or the CPU does not compute the precision.

    Example:
        ``nnsam.load("heart_bundle").predict(volume, spacing=(2.5, 0.8, 0.8)).segmentation``
    """
    folder = Path(path_or_name)
    if kind not in (None, "automatic", "box"):
        raise InputError(f"the kind {kind!r} of model is unknown; expected automatic or box")
    backend: Any
    if is_bundle(folder):
        from nnsam.inference.bundle import check_runs_on_cpu
        from nnsam.inference.openvino_backend import OpenVINOBackend

        bundle = Bundle.open(folder, kind)
        check_runs_on_cpu(bundle, device)
        if checkpoint is not None:
            raise InputError(
                f"{folder} is a bundle, which holds no checkpoints to choose from; leave the checkpoint {checkpoint} "
                "out, or export the model with it"
            )
        backend = OpenVINOBackend(bundle, precision, threads, folds=folds)
    else:
        from nnsam.inference.torch_backend import TorchBackend

        _check_model_folder(folder)
        backend = TorchBackend.from_folder(folder, folds, checkpoint, device, precision, threads, kind=kind)
    if backend.manifest["kind"] == "box":
        from nnsam.inference.box.predictor import BATCH_SIZE, BoxPredictor

        return BoxPredictor(backend, BATCH_SIZE if batch_size is None else batch_size)
    from nnsam.inference.automatic.predictor import Predictor

    return Predictor(backend, threads, batch_size)


def _check_model_folder(folder: Path) -> None:
    expected = "expected a bundle made by `nnsam export`, or a model folder of nnU-Net, <trainer>__<plans>__2d"
    if folder.is_dir():
        if not (folder / "plans.json").is_file():
            raise InputError(f"{folder} holds neither bundle.json nor plans.json; {expected}{fold_hint(folder)}")
    elif folder.exists():
        raise InputError(f"{folder} is a file; {expected}")
    else:
        raise InputError(f"there is no folder {folder}; {expected}")
