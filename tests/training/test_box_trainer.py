"""Box trainers on the toy data set: what they build, load, train, write, and that inference takes it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import create, set_up

from nnsam.errors import InputError
from nnsam.inference import BoxPredictor
from nnsam.networks.box_unet import BoxUNet
from nnsam.training.box_planning import box_settings
from nnsam.training.box_trainer import MIN_PIXELS, _objects

SMALL = "_1epochs_2iters_seed1"


def box_plans(toy: Path, prompt: str = "ellipse") -> dict:
    """The toy's plans as `nnsam plan-box` would write them."""
    plans = json.loads((toy / "Dataset901_Toy" / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["nnsam_box"] = {"model": "small", "prompt": prompt}
    return {"configurations": plans["configurations"], "plans_name": "nnSAMBoxPlans"}


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """nnSAMBoxTrainer after one epoch of two iterations through nnU-Net's own run_training. Not to be changed."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, toy, results)
        trainer = create(toy, f"nnSAMBoxTrainer{SMALL}", **box_plans(toy))
        trainer.run_training()
        trainer.perform_actual_validation()
    return trainer


@pytest.fixture
def make_box_trainer(make_trainer, toy):
    return lambda name, **changes: make_trainer(name, **(box_plans(toy) | changes))


def test_the_protocol_of_the_paper(make_box_trainer):
    trainer = make_box_trainer("nnSAMBoxTrainer_10epochs")
    trainer.initialize()
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (group["momentum"], group["nesterov"], group["lr"]) == (0.99, True, 0.01)
    rates = []
    for epoch in range(10):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, 0.01 * (1 - np.arange(10) / 10))
    assert not trainer.configuration_manager.batch_dice


def test_the_fast_relative_uses_adamw(make_box_trainer):
    trainer = make_box_trainer("nnSAMBoxFastTrainer_10epochs")
    trainer.initialize()
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.zoom_probability > 0.5


def test_batches_hold_image_prompt_and_one_object(make_box_trainer):
    trainer = make_box_trainer("nnSAMBoxTrainer_seed3")
    trainer.prompt_dropout = 0.0
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        for _ in range(5):
            batch = next(loader)
            assert batch["data"].shape == (2, 1 + 2, 64, 64)
            prompt, target = batch["data"][:, 1], batch["target"][0][:, 0]
            assert target.unique().tolist() in ([0, 1], [1])
            if loader is trainer.dataloader_val:  # tight boxes
                for box, mask in zip(prompt, target, strict=True):
                    assert torch.equal(box.any(0), mask.any(0))
                    assert torch.equal(box.any(1), mask.any(1))


def test_what_a_training_leaves_behind(trained):
    folder = Path(trained.output_folder)
    dataset = json.loads((folder.parent / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "object": 1}
    assert box_settings(json.loads((folder.parent / "plans.json").read_text())) == {
        "model": "small",
        "prompt": "ellipse",
    }
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    assert len(summary["metric_per_case"]) == 5
    assert all(case["metrics"]["1"]["objects"] > 0 for case in summary["metric_per_case"])


def test_inference_takes_the_model_folder_wherever_it_lies(trained, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, size=(70, 90), dtype=np.uint8)
    boxes = [[5, 6, 40, 50], [60, 10, 80, 60]]
    here = BoxPredictor.from_folder(Path(trained.output_folder).parent).set_image(image).predict(boxes)
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(Path(trained.output_folder).parent, moved)
    there = BoxPredictor.from_folder(moved).set_image(image).predict(boxes)
    for first, second in zip(here.probabilities, there.probabilities, strict=True):
        np.testing.assert_array_equal(first, second)


def test_validation_objects_are_seeded_components_of_the_case(trained, toy):
    _, names = trained.do_split()
    cases = trained.dataset_class(trained.preprocessed_dataset_folder, names)
    found = list(_objects(cases, names[0], trained.box_labels, 3))
    again = list(_objects(cases, names[0], trained.box_labels, 3))
    assert len(found) == 3
    for (image, mask), (_, same) in zip(found, again, strict=True):
        assert image.shape == mask.shape
        assert mask.sum() >= MIN_PIXELS
        assert np.array_equal(mask, same)


def test_prediction_builds_the_same_network_from_the_class_alone(trained):
    network = type(trained).build_network_architecture(
        trained.plans_manager, trained.configuration_manager, 1, 2, enable_deep_supervision=False
    )
    assert isinstance(network, BoxUNet)
    assert network.state_dict().keys() == trained.bare_network.state_dict().keys()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_the_hybrid_has_a_frozen_sam_branch(make_box_trainer, monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    trainer = make_box_trainer("nnSAMBoxHybridTrainer_1epochs_1iters_sam32_seed1")
    trainer.on_train_start()
    before = {name: value.clone() for name, value in trainer.bare_network.sam.state_dict().items()}
    trainer.on_train_epoch_start()
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    after = trainer.bare_network.sam.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_plans_are_refused_in_one_sentence(make_trainer):
    with pytest.raises(InputError, match="nnsam plan-box"):
        make_trainer("nnSAMBoxTrainer")
