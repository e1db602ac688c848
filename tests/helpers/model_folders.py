"""Model folders as nnU-Net writes them, with tiny random networks."""

import copy
import json
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from helpers.plans import dataset_json, make_plans
from nnsam.nnunet.model_folder import find_trainer

REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def write_model_folder(
    folder: Path,
    trainer: str = "nnUNetTrainer",
    configuration: str = "2d",
    folds=("0",),
    channels: int = 1,
    plans: dict | None = None,
    labels: dict | None = None,
    axes=(0, 1),
) -> Path:
    """Writes plans.json, dataset.json and a checkpoint per fold; the seed of a fold's network is its place."""
    plans, dataset = make_plans() if plans is None else plans, dataset_json(2, channels)
    flat = plans["configurations"]["2d"]
    flat.update(normalization_schemes=["ZScoreNormalization"] * channels, use_mask_for_norm=[False] * channels)
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {str(index): statistics for index in range(channels)}
    if labels is not None:
        dataset.update(labels=labels, regions_class_order=[1, 2])
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(copy.deepcopy(plans))
    outputs = 2 if "Box" in trainer else manager.get_label_manager(dataset).num_segmentation_heads
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        network = find_trainer(trainer, folder).build_network_architecture(
            manager, manager.get_configuration(configuration), channels, outputs, True
        )
        if getattr(network, "sam", None) is not None:
            _same_encoder_in_all_folds(network)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": trainer,
            "init_args": {"plans": plans, "configuration": configuration, "fold": fold, "dataset_json": dataset},
            "inference_allowed_mirroring_axes": axes,
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def edit(path: Path, **changes) -> None:
    """Changes entries of a checkpoint."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)


def _same_encoder_in_all_folds(network) -> None:
    from nnsam.networks import MobileSAMEncoder

    network.sam.encoder.load_state_dict(MobileSAMEncoder.random(0).state_dict())
    if hasattr(network.fusion, "project"):
        torch.nn.init.normal_(network.fusion.project.weight, std=0.05)  # the identity would not show the embedding
