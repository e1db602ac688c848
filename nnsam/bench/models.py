"""Models to measure: the published box network with random weights, which costs what a trained one does, and others.

As a module, a bundle, a model folder, a predictor; and one that only counts.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.inference import BoxModelSpec, BoxPredictor
from nnsam.inference.bundle import Bundle, is_bundle, write_manifest
from nnsam.inference.loading import load
from nnsam.nnunet.model_folder import CHECKPOINT, TrainedModel
from nnsam.support.openvino import import_openvino

if TYPE_CHECKING:
    import torch

    from nnsam.networks.box_unet import BoxUNet


CHANNELS = 3
# Added to the object's logit, so that every box is found to be full of its object: the slices of a volume are then
# followed to its ends, whatever the random weights say.
_BIAS = 100.0
_CALIBRATION_IMAGES = 4


def random_network(model: str = "full", hybrid: bool = False, sam_size: int = 1024) -> "BoxUNet":
    """Builds the box network with random weights, in evaluation mode.

    Args:
        model: key of :data:`nnsam.networks.box_unet.MODELS`; "full" is the published one.
        hybrid: with the frozen SAM branch, random as well.
        sam_size: side of the SAM branch's picture.
    """
    import torch

    from nnsam.networks.box_unet import build_box_unet
    from nnsam.networks.mobile_sam import MobileSAMEncoder
    from nnsam.networks.sam_branch import SAMBranch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sam = SAMBranch(MobileSAMEncoder.random(0), sam_size, random_by_design=True) if hybrid else None
        network = build_box_unet(model, image_channels=CHANNELS, sam=sam).eval()
        with torch.no_grad():
            network.decoder.seg_layers[-1].bias[1] += _BIAS
            if hybrid:  # the fusion starts by ignoring the embedding, which a compiler might notice
                torch.nn.init.normal_(network.fusion.project.weight, std=0.03)
    return network


def random_bundle(
    folder: Path, hybrid: bool = False, int8: bool = False, model: str = "full", sam_size: int = 1024
) -> Bundle:
    """Writes a bundle of :func:`random_network`.

    Args:
        folder: to write into; made if absent, empty.
        hybrid: see :func:`random_network`.
        int8: with a quantised network, calibrated on noise: as quick as one calibrated on images, and of no other use.
        model: see :func:`random_network`.
        sam_size: see :func:`random_network`.

    Raises:
        SetupError: `int8` without NNCF.
    """
    from nnsam.exporting.manifest import complete, describe_network
    from nnsam.exporting.network_files import NetworkWriter
    from nnsam.nnunet.description import describe

    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(model, hybrid, sam_size)
    trained = _trained(folder, model, "nnSAMBoxHybridTrainer" if hybrid else "nnSAMBoxTrainer")
    writer = NetworkWriter(trained, folder)
    fold: dict[str, Any] = {"fold": "0", "unet": writer.write("0", network).unet.name, "int8": None, "fused": None}
    if int8:
        fold["int8"] = "unet_fold0_int8.xml"
        quantize_on_noise(folder / fold["unet"], folder / fold["int8"], writer.unet("0", network).shapes)
    manifest = complete(
        describe(trained),
        describe_network(network),
        networks={"image_encoder": writer.encoder, "folds": [fold]},
        precision={"auto": "f32", "reason": "random weights: nothing to choose by", "candidates": {}},
        parity=None,
    )
    return write_manifest(folder, manifest)


def random_model_folder(folder: Path, model: str = "full") -> Path:
    """Writes :func:`random_network` with plans, data set and checkpoint as training leaves them.

    Args:
        folder: to write into; made if absent.
        model: see :func:`random_network`.

    Returns:
        The folder.
    """
    import torch

    trained = _trained(folder, model)
    fold = folder / "fold_0"
    fold.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(trained.plans))
    (folder / "dataset.json").write_text(json.dumps(trained.dataset_json))
    arguments = {"plans": trained.plans, "configuration": "2d", "fold": 0, "dataset_json": trained.dataset_json}
    checkpoint = {
        "network_weights": random_network(model).state_dict(),
        "trainer_name": trained.trainer,
        "init_args": arguments,
        "inference_allowed_mirroring_axes": trained.mirror_axes,
    }
    torch.save(checkpoint, fold / trained.checkpoint)
    return folder


def quantize_on_noise(source: Path, target: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    """Writes the int8 version of an IR file, calibrated on noise.

    Args:
        source: the .xml file.
        target: the .xml file to write.
        shapes: of the inputs without the batch.

    Raises:
        SetupError: NNCF is not installed.
    """
    from nnsam.exporting.int8 import quantize_unchecked

    openvino = import_openvino()
    rng = np.random.default_rng(0)
    images = [
        tuple(rng.standard_normal((1, *shape), np.float32) for shape in shapes) for _ in range(_CALIBRATION_IMAGES)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantize_unchecked(openvino.Core().read_model(source), images)
    openvino.save_model(model, target, compress_to_fp16=False)


def random_encoder(path: Path, size: int) -> "torch.nn.Module":
    """Writes MobileSAM's encoder with random weights as IR, and returns it: picture (1, 3, size, size) -> embedding."""
    from nnsam.exporting.conversion import save, to_openvino
    from nnsam.networks.mobile_sam import MobileSAMEncoder
    from nnsam.networks.sam_branch import ImageEncoder, SAMBranch

    module = ImageEncoder(SAMBranch(MobileSAMEncoder.random(0), size, random_by_design=True)).eval()
    save(to_openvino(module, [(CHANNELS, size, size)], ["picture"], "embedding"), path)
    return module


def _trained(folder: Path, model: str, trainer: str = "nnSAMBoxTrainer") -> TrainedModel:
    """What training would leave of such a network."""
    return TrainedModel(folder, CHECKPOINT, ("0",), trainer, "2d", _plans(model), _dataset(), mirror_axes=(0, 1))


def _dataset() -> dict[str, Any]:
    return {
        "channel_names": {str(index): "RGB"[index] for index in range(CHANNELS)},
        "labels": {"background": 0, "object": 1},
        "numTraining": 0,
        "file_ending": ".png",
    }


def _plans(model: str) -> dict[str, Any]:
    from nnsam.networks.box_unet import MODELS, box_architecture

    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    patch_size = list(MODELS[model][2])
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch_size,
        "median_image_size_in_voxels": patch_size,
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * CHANNELS,
        "use_mask_for_norm": [False] * CHANNELS,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{what}_kwargs": resampling for what in ("data", "seg", "probabilities")},
        "architecture": box_architecture(model),
        "nnsam_box": {"model": model, "prompt": "binary"},
    }
    return {
        "dataset_name": "none: random weights",
        "plans_name": "nnSAMBoxPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, *patch_size],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "BoxPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(index): {} for index in range(CHANNELS)},
    }


def load_predictor(folder: str | None, device: str = "cpu") -> BoxPredictor:
    """Loads a box model, or builds the network of Stock et al. (71,817,450 parameters) with random weights.

    Args:
        folder: a model folder, computed in float32, or a bundle, in the precision that it prefers; None: that network.
        device: of PyTorch; bundles take "cpu" and "auto".

    Raises:
        InputError: no such model, or a bundle on another device than the CPU.
    """
    if folder is not None:
        predictor = load(folder, device, "auto" if is_bundle(folder) else "f32", kind="box")
        assert isinstance(predictor, BoxPredictor)
        return predictor
    import torch

    from nnsam.inference import TorchBackend
    from nnsam.networks.box_unet import MODELS, build_box_unet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_box_unet("full")
    spec = BoxModelSpec(MODELS["full"][2], image_channels=3, prompt="binary")
    return BoxPredictor(TorchBackend(network, spec.to_manifest(), device=device))


def open_predictor(folder: Path, precision: str, threads: int = 0) -> BoxPredictor:
    """Opens a bundle with the runtime."""
    return BoxPredictor.open(folder, precision, threads, cache=False)


class CountingBackend:
    """Takes every pixel for the object, so that volumes are followed through the whole box; costs nothing.

    Args:
        spec: of the model whose passes are to be counted.

    Attributes:
        manifest: the model's.
        passes: number of patches seen.
    """

    digest, folds, outputs, precision, note = "", ("0",), 2, "f32", ""

    def __init__(self, spec: BoxModelSpec):
        self.manifest = spec.to_manifest()
        self.passes = 0

    def stream(self, fold: int, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yields logits (B, 2, h, w) that are sure of the object, for (B, C + P, h, w)."""
        for patches in batches:
            self.passes += len(patches)
            logits = np.zeros((len(patches), 2, *patches.shape[2:]), np.float32)
            logits[:, 1] = np.inf
            yield logits
