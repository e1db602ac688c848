"""Regions and ignored pixels: targets, outputs and the loss of nnSAMTrainer fit nnU-Net's rules for both."""

import numpy as np
import pytest
import torch
from helpers.plans import make_plans

from nnsam.training.trainer_names import trainer_class

STRUCTURES = {"background": 0, "LV": 1, "RV": 2}
REGIONS = {"background": 0, "heart": [1, 2], "LV": 1}
IGNORE = {"ignore": 3}


def make(results, labels: dict, regions: bool):
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 5, "file_ending": ".png"}
    if regions:
        dataset["regions_class_order"] = [2, 1]
    cls = trainer_class("nnSAMRandomEncoderTrainer_sam32")
    trainer = cls(make_plans(), "2d", "all", dataset, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def sample(trainer) -> list[torch.Tensor]:
    """What a data-loading worker makes of a label map with a border of ignored pixels (value 3)."""
    labels = np.zeros((1, 64, 64), dtype=np.int16)
    labels[0, 10:40, 10:40] = 1
    labels[0, 20:50, 40:60] = 2
    labels[0, :, 62:] = 3 if trainer.label_manager.has_ignore_label else 0
    manager = trainer.label_manager
    transforms = trainer.get_validation_transforms(
        trainer._get_deep_supervision_scales(),
        is_cascaded=False,
        foreground_labels=manager.foreground_labels,
        regions=manager.foreground_regions if manager.has_regions else None,
        ignore_label=manager.ignore_label,
    )
    return transforms(image=torch.zeros(1, 64, 64), segmentation=torch.from_numpy(labels))["segmentation"]


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("regions", [False, True])
def test_a_step_runs_and_level_sets_follow_classes_or_regions(results, regions, ignore):
    trainer = make(results, (REGIONS if regions else STRUCTURES) | (IGNORE if ignore else {}), regions)
    targets = sample(trainer)
    level_set = targets[-1]
    assert level_set.shape == (2, 64, 64)
    known = ~torch.isnan(level_set)
    assert known.all() == (not ignore)
    assert not (level_set[:, :, 62:] < 0).any()
    inside = (level_set < 0) & known
    # With regions, the first is the whole heart; without, each class on its own.
    assert inside[0, 30, 50] == regions
    assert inside[:, 25, 25].tolist() == ([True, True] if regions else [True, False])
    assert trainer.network.level_set_head.skip == (0 if regions else 1)

    batch = {
        "data": torch.randn(2, 1, 64, 64),
        "target": [torch.stack([target, target]) for target in targets],
        "keys": ["a", "b"],
    }
    trainer.network.train()
    assert np.isfinite(trainer.train_step(batch)["loss"])
    trainer.network.eval()
    with torch.no_grad():
        step = trainer.validation_step(batch)
    assert np.isfinite(step["loss"])
    assert len(step["tp_hard"]) == 2


def test_ignored_pixels_have_no_influence(results):
    trainer = make(results, STRUCTURES | IGNORE, regions=False)
    targets = [target[None] for target in sample(trainer)]
    output = [output.detach() for output in trainer.network.train()(torch.randn(1, 1, 64, 64))]
    changed = [output.clone() for output in output]
    changed[0][..., 62:] += 3
    changed[-1][..., 62:] = 0.9
    for weight in range(1, 4):  # coarser outputs: nearest neighbour of the same ignored columns
        ignored = (targets[weight] == 3).expand_as(changed[weight])
        changed[weight][ignored] += 3
    assert trainer.loss(changed, targets) == pytest.approx(trainer.loss(output, targets).item(), rel=1e-6)
    changed[-1][..., :62] += 0.1
    assert trainer.loss(changed, targets) != pytest.approx(trainer.loss(output, targets).item(), rel=1e-6)
