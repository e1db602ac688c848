"""Tiny real bundles, written without :mod:`nnsam.exporting`: random networks in the layout that the runtime reads."""

import warnings
from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from helpers.plans import PLAIN, architecture, dataset_json
from nnsam.inference.bundle import Bundle, write_manifest
from nnsam.networks import BoxUNet, FusedUNet, SAMBranch
from nnsam.networks.build import build_unet
from nnsam.networks.legacy import LegacyInput
from nnsam.networks.openvino_encoder import to_openvino
from nnsam.prompts.encoding import ENCODINGS

SAM_SIZE = 64
# What the "int8" network's logits are multiplied by: rounding that a test can recognise.
INT8_FACTOR = 1.01


class TinyEncoder(nn.Module):
    """(B, 3, S, S) -> (B, 256, S/16, S/16), as SAM's encoder."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, 4)
        self.second = nn.Conv2d(8, 256, 4, 4)

    def forward(self, picture):
        return self.second(torch.tanh(self.first(picture)))


class LegacyBranch(SAMBranch):
    """The branch of nnSAM's released code."""

    def build_input(self, size):
        return LegacyInput(size)


class _Tail(nn.Module):
    """Everything but the SAM branch."""

    def __init__(self, network, factor=1.0):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, patch, embedding=None):
        skips = list(self.network.encoder(patch))
        if embedding is not None:
            skips = self.network.fuse(skips, embedding)
        return self.network._decode(skips)[0][0] * self.factor


class _Embed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.branch = network.sam

    def forward(self, picture):
        return self.branch.embed(picture)


class _Fused(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.embed, self.tail = _Embed(network), _Tail(network)

    def forward(self, patch, picture):
        return self.tail(patch, self.embed(picture))


def save_ir(module, path, **examples):
    """Converts a module to an IR file with named inputs and a dynamic batch."""
    module.eval()
    if len(examples) == 1:
        model = to_openvino(module, *examples.values())
    else:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(module, example_input=tuple(examples.values()))
            front_end = FrontEndManager().load_by_framework("pytorch")
            model = front_end.convert(front_end.load(decoder))
    shapes = {}
    for port, (name, example) in zip(model.inputs, examples.items(), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        shapes[port] = [-1, *example.shape[1:]]
    model.reshape(shapes)
    openvino.save_model(model, str(path), compress_to_fp16=False)


def tiny_network(
    dimensions=2, channels=1, outputs=3, sam=False, legacy=False, prompt=None, seed=0, stages=3, sam_size=SAM_SIZE
):
    """A random network in evaluation mode; `prompt` makes it a box network."""
    torch.manual_seed(seed)
    inputs = channels + (ENCODINGS[prompt] if prompt else 0)
    unet = build_unet(architecture(PLAIN, stages, 4, dimensions), inputs, outputs, False)
    branch = None
    if sam:
        torch.manual_seed(99)  # all folds have the same frozen encoder
        branch = (LegacyBranch if legacy else SAMBranch)(TinyEncoder(), sam_size, random_by_design=True)
        torch.manual_seed(seed)
    network = BoxUNet(unet, channels, prompt, branch) if prompt else FusedUNet(unet, branch)
    for name, parameter in network.named_parameters():
        if not name.startswith("sam.") and parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    if sam:  # the fusion starts by ignoring the embedding
        nn.init.normal_(network.fusion.project.weight, std=0.2)
    return network.eval()


def write_automatic(
    folder,
    *,
    dimensions=2,
    patch_size=None,
    channels=1,
    outputs=3,
    sam=False,
    legacy=False,
    folds=("0",),
    fused=False,
    int8=False,
    auto="f32",
    mirror=True,
    sections=None,
    sam_size=SAM_SIZE,
):
    """Writes an automatic model; `sections` replaces or updates sections of the manifest.

    Returns:
        Its PyTorch networks, one per fold.
    """
    patch_size = patch_size or (16, 32, 48)[-dimensions:]
    options = {"dimensions": dimensions, "channels": channels, "outputs": outputs, "sam": sam, "legacy": legacy}
    options["sam_size"] = sam_size
    networks = [tiny_network(**options, seed=seed) for seed in range(len(folds))]
    manifest = _manifest("automatic", networks[0], folds, patch_size, channels, outputs, mirror, auto)
    manifest["networks"] = write_networks(folder, networks, folds, patch_size, channels, channels, fused, int8)
    return _finish(folder, manifest, sections, networks)


def write_box(
    folder,
    *,
    patch_size=(32, 48),
    channels=1,
    prompt="binary",
    sam=False,
    folds=("0",),
    fused=False,
    int8=False,
    auto="f32",
    spacing=None,
    per_slice_normalization=True,
    sections=None,
):
    """Writes a box model; see `write_automatic`."""
    networks = [
        tiny_network(channels=channels, outputs=2, sam=sam, prompt=prompt, seed=seed) for seed in range(len(folds))
    ]
    manifest = _manifest("box", networks[0], folds, patch_size, channels, 2, True, auto)
    manifest["box"] = {
        "prompt": prompt,
        "spacing": spacing,
        "per_slice_normalization": per_slice_normalization,
    }
    inputs = channels + ENCODINGS[prompt]
    manifest["networks"] = write_networks(folder, networks, folds, patch_size, inputs, channels, fused, int8)
    return _finish(folder, manifest, sections, networks)


def write_networks(folder, networks, folds, patch_size, inputs, channels, fused, int8):
    """Writes the IR files; returns the manifest's section."""
    folder.mkdir(parents=True, exist_ok=True)
    patch, sam = torch.zeros(2, inputs, *patch_size), networks[0].sam
    # As many channels as the SAM branch's preparation makes.
    encoder, examples = None, {"patch": patch}
    if sam is not None:
        size = sam.prepare.size
        picture = torch.zeros_like(sam.prepare.picture(torch.zeros(2, channels, *patch_size)))
        save_ir(_Embed(networks[0]), folder / "image_encoder.xml", picture=picture)
        examples["embedding"] = torch.zeros(2, 256, size // 16, size // 16)
        kind = "legacy" if isinstance(sam, LegacyBranch) else "robust"
        encoder = {"file": "image_encoder.xml", "int8": None, "size": size, "input": kind}
        encoder["channels"] = picture.shape[1]
    entries = []
    for fold, network in zip(folds, networks, strict=True):
        entry = {"fold": fold, "unet": f"unet_fold{fold}.xml", "int8": None, "fused": None}
        save_ir(_Tail(network), folder / entry["unet"], **examples)
        if int8:
            entry["int8"] = f"unet_fold{fold}_int8.xml"
            save_ir(_Tail(network, INT8_FACTOR), folder / entry["int8"], **examples)
        if fused:
            entry["fused"] = f"fused_fold{fold}.xml"
            save_ir(_Fused(network), folder / entry["fused"], patch=patch, picture=picture)
        entries.append(entry)
    return {"image_encoder": encoder, "folds": entries}


def _manifest(kind, network, folds, patch_size, channels, outputs, mirror, auto):
    dataset = dataset_json(classes=outputs - 1, channels=channels)
    dimensions = len(patch_size)
    resampling = {"function": "resample_data_or_seg_to_shape", "order_z": 0, "force_separate_z": None}
    statistics = {"mean": 100.0, "std": 50.0, "percentile_00_5": 0.0, "percentile_99_5": 255.0}
    scheme = {"scheme": "ZScoreNormalization", "use_mask": False, "statistics": statistics}
    return {
        "kind": kind,
        "model": {
            "trainer": "nnSAMBoxTrainer" if kind == "box" else "nnSAMTrainer",
            "plans": "nnUNetPlans",
            "configuration": "2d" if dimensions == 2 else "3d_fullres",
            "dataset": "Dataset901_Toy",
            "folds": list(folds),
            "checkpoint": "checkpoint_final.pth",
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "sam_weights": None if network.sam is None else {"kind": "random", "sha256": "0" * 64},
        },
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"nnsam": "0", "openvino": openvino.__version__},
        "input": {
            "channel_names": dataset["channel_names"],
            "channels": channels,
            "file_ending": ".png" if dimensions == 2 else ".nii.gz",
            "reader": "NaturalImage2DIO" if dimensions == 2 else "SimpleITKIO",
            "dimensions": dimensions,
        },
        "preprocessing": {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "spacing": [1.0] * dimensions,
            "normalization": [scheme] * channels,
            "resampling": {"data": {**resampling, "order": 3}, "probabilities": {**resampling, "order": 1}},
        },
        "tiling": {
            "patch_size": list(patch_size),
            "step": 0.5,
            "gaussian_sigma": 0.125,
            "mirror_axes": list(range(dimensions)) if mirror else None,
        },
        "labels": {
            "names": dataset["labels"],
            "regions_class_order": None,
            "has_regions": False,
            "outputs": outputs,
            "foreground": list(range(1, outputs)),
        },
        "box": None,
        "networks": {},
        "precision": {"auto": auto, "reason": "made for a test", "candidates": {}},
        "parity": {"max_difference": 0.0, "mean_difference": 0.0, "tolerance": 1e-3, "images": 0},
        "dataset_json": dataset | {"file_ending": ".png" if dimensions == 2 else ".nii.gz"},
    }


def _finish(folder: Path, manifest, sections, networks):
    for name, values in (sections or {}).items():
        manifest[name] = {**manifest[name], **values} if isinstance(values, dict) and manifest[name] else values
    write_manifest(folder, manifest)
    Bundle.open(folder)
    return networks
