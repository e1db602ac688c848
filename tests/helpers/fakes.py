"""Backends whose result is known without a network, and models on disk."""

import json
from pathlib import Path

import numpy as np
import torch

from helpers.plans import dataset_json, make_plans
from nnsam.inference.box.network import BoxNetwork
from nnsam.networks import build_box_unet
from nnsam.networks.box_unet import box_architecture
from nnsam.prompts.box_model import BoxModelSpec


class FakeBackend:
    """Logits for `function(patches) -> probability`; counts, and keeps the sizes of the batches that it was given."""

    digest, folds, outputs, precision, note = "", ("0",), 2, "f32", ""

    def __init__(self, function, patch_size=(32, 48), image_channels=1, **spec):
        self.spec = BoxModelSpec(patch_size, image_channels, **spec)
        self.manifest = self.spec.to_manifest()
        self.passes = 0
        self.batches = []
        self._function = function

    def stream(self, fold, batches):
        for patches in batches:
            assert patches.dtype == np.float32
            assert patches.shape[2:] == self.spec.patch_size
            self.passes += len(patches)
            self.batches.append(len(patches))
            probability = self._function(patches).astype(np.float32)
            with np.errstate(divide="ignore"):  # of 0 and 1, whose logits are infinite
                yield np.stack([np.zeros_like(probability), np.log(probability) - np.log1p(-probability)], axis=1)


def logits_of(backend, patches, fold=0):
    """(B, outputs, *patch) for (B, C, *patch)."""
    (logits,) = backend.stream(fold, [patches])
    return logits


def probabilities_of(backend, patches, batch_size=8):
    """(B, h, w) for (B, C + P, h, w): the mean of all folds."""
    return np.stack(list(BoxNetwork(backend, batch_size)(patches)))


def prompt_backend(**options):
    """Answers with the prompt's binary channel."""
    channels = options.get("image_channels", 1)
    return FakeBackend(lambda patches: patches[:, channels], **options)


def bright_backend(threshold=None, **options):
    """Finds what is bright in the first channel, wherever the prompt is.

    Brighter than `threshold` after normalisation; by default than halfway between a patch's extremes, and nothing in a
    patch of one brightness.
    """

    def find(patches):
        image = patches[:, 0]
        if threshold is not None:
            return 1 / (1 + np.exp(-4 * (image - threshold).clip(-20, 20)))
        low, high = (bound(image, axis=(1, 2), keepdims=True) for bound in (np.min, np.max))
        return np.where(high > low, (image - low) / np.where(high > low, high - low, 1), 0)

    return FakeBackend(find, **options)


def halfway(mask):
    """The normalised value halfway between the two brightnesses of an image that shows this mask."""
    share = mask.mean()
    return (0.5 - share) / np.sqrt(share * (1 - share))


def disk(shape, centre, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 < radius**2


def dsc(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def box_plans(patch_size=(32, 48), prompt="binary"):
    plans = make_plans(patch_size=patch_size)
    flat = plans["configurations"]["2d"]
    flat["architecture"] = box_architecture("small")
    flat["nnsam_box"] = {"model": "small", "prompt": prompt}
    plans["configurations"] = {"2d": flat}
    plans["plans_name"] = "nnSAMBoxPlans"
    return plans


def write_model(folder: Path, folds=("0",), channels=1, trainer="nnSAMBoxTrainer_1epochs", plans=None, seed=0):
    """Writes a model folder as nnU-Net does, with random weights; returns its networks."""
    plans = box_plans() if plans is None else plans
    dataset = dataset_json(classes=1, channels=channels)
    flat = plans["configurations"]["2d"]
    flat.update(normalization_schemes=["ZScoreNormalization"] * channels, use_mask_for_norm=[False] * channels)
    statistics = plans["foreground_intensity_properties_per_channel"]
    statistics.update({str(channel): statistics["0"] for channel in range(channels)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    networks = []
    for index, fold in enumerate(folds):
        torch.manual_seed(seed + index)
        prompt = flat.get("nnsam_box", {}).get("prompt", "binary")
        networks.append(build_box_unet("small", image_channels=channels, prompt=prompt).eval())
        arguments = {"plans": plans, "configuration": "2d", "fold": fold, "dataset_json": dataset}
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": networks[-1].state_dict(),
            "trainer_name": trainer,
            "init_args": arguments,
            "inference_allowed_mirroring_axes": (0, 1),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return networks
