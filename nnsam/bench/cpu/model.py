"""The published box network with random weights, as PyTorch module and as bundle: it costs what a trained one does."""

import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsam.inference.bundle import Bundle, write_manifest
from nnsam.support.machine import PACKAGES, package_version
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
    from nnsam.exporting.conversion import UNetBranch, save, to_openvino
    from nnsam.networks.box_unet import MODELS
    from nnsam.networks.mobile_sam import EMBEDDING_CHANNELS, STRIDE
    from nnsam.networks.sam_branch import ImageEncoder

    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(model, hybrid, sam_size)
    patch_size = MODELS[model][2]
    inputs: dict[str, tuple[int, ...]] = {"patch": (CHANNELS + network.prompt_channels, *patch_size)}
    encoder = None
    if network.sam is not None:
        inputs["embedding"] = (EMBEDDING_CHANNELS, sam_size // STRIDE, sam_size // STRIDE)
        encoder = {"file": "image_encoder.xml", "int8": None, "size": sam_size, "input": "robust", "channels": CHANNELS}
        picture = (CHANNELS, sam_size, sam_size)
        save(to_openvino(ImageEncoder(network.sam), [picture], ["picture"], "embedding"), folder / "image_encoder.xml")
    fold: dict[str, Any] = {"fold": "0", "unet": "unet_fold0.xml", "int8": None, "fused": None}
    unet = UNetBranch(network, patch_size).eval()
    save(to_openvino(unet, list(inputs.values()), list(inputs), "logits"), folder / fold["unet"])
    if int8:
        fold["int8"] = "unet_fold0_int8.xml"
        quantize_on_noise(folder / fold["unet"], folder / fold["int8"], list(inputs.values()))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    networks = {"image_encoder": encoder, "folds": [fold]}
    return write_manifest(folder, _manifest(patch_size, parameters, networks, network.sam))


def quantize_on_noise(source: Path, target: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    """Writes the int8 version of an IR file, calibrated on noise.

    Args:
        source: the .xml file.
        target: the .xml file to write.
        shapes: of the inputs without the batch.

    Raises:
        SetupError: NNCF is not installed.
    """
    from nnsam.exporting.quantization import quantize_unchecked

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


def _manifest(patch_size: tuple[int, int], parameters: int, networks: dict, sam: Any) -> dict[str, Any]:
    resampling = {"function": "resample_data_or_seg_to_shape", "order_z": 0, "force_separate_z": None}
    dataset = {
        "channel_names": {str(index): name for index, name in enumerate("RGB")},
        "labels": {"background": 0, "object": 1},
        "numTraining": 0,
        "file_ending": ".png",
    }
    weights = None if sam is None else {"kind": "random", "sha256": sam.provenance.sha256}
    return {
        "kind": "box",
        "model": {
            "trainer": "nnSAMBoxTrainer" if sam is None else "nnSAMBoxHybridTrainer",
            "plans": "nnSAMBoxPlans",
            "configuration": "2d",
            "dataset": "none: random weights",
            "folds": ["0"],
            "checkpoint": "none: random weights",
            "parameters": parameters,
            "sam_weights": weights,
        },
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: package_version(name) for name in PACKAGES},
        "input": {
            "channel_names": dataset["channel_names"],
            "channels": CHANNELS,
            "file_ending": ".png",
            "reader": "NaturalImage2DIO",
            "dimensions": 2,
        },
        "preprocessing": {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "spacing": [1.0, 1.0],
            "normalization": [{"scheme": "ZScoreNormalization", "use_mask": False, "statistics": {}}] * CHANNELS,
            "resampling": {"data": {**resampling, "order": 3}, "probabilities": {**resampling, "order": 1}},
        },
        "tiling": {"patch_size": list(patch_size), "step": 0.5, "gaussian_sigma": 0.125, "mirror_axes": [0, 1]},
        "labels": {
            "names": dataset["labels"],
            "regions_class_order": None,
            "has_regions": False,
            "outputs": 2,
            "foreground": [1],
        },
        "box": {"prompt": "binary", "spacing": None, "per_slice_normalization": True},
        "networks": networks,
        "precision": {"auto": "f32", "reason": "random weights: nothing to choose by", "candidates": {}},
        "parity": None,
        "dataset_json": dataset,
    }
