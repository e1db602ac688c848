"""Tiny real bundles: random networks, described and written by :mod:`nnsam.exporting`, compared with nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from helpers.plans import PLAIN, architecture, dataset_json, make_plans
from nnsam.exporting.conversion import save, to_openvino
from nnsam.exporting.manifest import complete, describe_network
from nnsam.exporting.network_files import NetworkWriter
from nnsam.inference.bundle import MANIFEST, Bundle, manifest_digest, write_manifest
from nnsam.networks import BoxUNet, FusedUNet, SAMBranch
from nnsam.networks.fused_unet import build_unet
from nnsam.networks.legacy import LegacyInput
from nnsam.nnunet.description import describe
from nnsam.nnunet.model_folder import CHECKPOINT, TrainedModel
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


class _Scaled(nn.Module):
    def __init__(self, module, factor):
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, patch, embedding=None):
        return self.module(patch, embedding) * self.factor


def save_ir(module, path, **examples):
    """Converts a module to an IR file with named inputs and a dynamic batch."""
    shapes = [example.shape[1:] for example in examples.values()]
    save(to_openvino(module.eval(), shapes, list(examples), "output"), path)


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
    model = _model("nnSAMTrainer", folds, patch_size, channels, outputs - 1, mirror)
    return _write(folder, model, networks, fused, int8, auto, sections)


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
    model = _model("nnSAMBoxTrainer", folds, patch_size, channels, 1, True, {"prompt": prompt})
    box = {"spacing": spacing, "per_slice_normalization": per_slice_normalization}
    return _write(folder, model, networks, fused, int8, auto, {"box": box, **(sections or {})})


def _model(trainer, folds, patch_size, channels, classes, mirror, box=None):
    """What the model folder of such networks would say."""
    dimensions = len(patch_size)
    plans, dataset = make_plans(), dataset_json(classes, channels)
    configuration = plans["configurations"]["2d"]
    configuration.update(
        patch_size=list(patch_size),
        spacing=[1.0] * dimensions,
        normalization_schemes=["ZScoreNormalization"] * channels,
        use_mask_for_norm=[False] * channels,
        resampling_fn_data_kwargs={"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    )
    if box:
        configuration["nnsam_box"] = box
    if dimensions == 3:
        plans["image_reader_writer"], dataset["file_ending"] = "SimpleITKIO", ".nii.gz"
    name = "2d" if dimensions == 2 else "3d_fullres"
    plans["configurations"] = {name: configuration}
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {str(index): statistics for index in range(channels)}
    axes = tuple(range(dimensions)) if mirror else None
    return TrainedModel(Path("toy"), CHECKPOINT, tuple(folds), trainer, name, plans, dataset, axes)


def _write(folder, model, networks, fused, int8, auto, sections):
    folder.mkdir(parents=True, exist_ok=True)
    writer = NetworkWriter(model, folder)
    entries = []
    for fold, network in zip(model.folds, networks, strict=True):
        entry = {"fold": fold, "unet": writer.write(fold, network).unet.name, "int8": None, "fused": None}
        if fused:
            entry["fused"] = writer.write_fused(fold, network).unet.name
        if int8:
            entry["int8"] = f"unet_fold{fold}_int8.xml"
            part = writer.unet(fold, network)
            save(
                to_openvino(_Scaled(part.module, INT8_FACTOR).eval(), part.shapes, part.inputs, part.output),
                folder / entry["int8"],
            )
        entries.append(entry)
    manifest = complete(
        describe(model),
        describe_network(networks[0]),
        networks={"image_encoder": writer.encoder, "folds": entries},
        precision={"auto": auto, "reason": "made for a test", "candidates": {}},
        parity={"max_difference": 0.0, "mean_difference": 0.0, "tolerance": 1e-3, "images": 0},
    )
    for name, values in (sections or {}).items():
        manifest[name] = {**manifest[name], **values} if isinstance(values, dict) and manifest[name] else values
    write_manifest(folder, manifest)
    Bundle.open(folder)
    return networks


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    """Changes what a bundle says and makes its digest fit again, as whoever writes a bundle by hand can."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    path.write_text(json.dumps(manifest))
