"""Images that cannot be used, and images that look like it and can."""

import numpy as np
import pytest
import torch
from helpers.plans import build_with, make_plans
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnsam.errors import InputError
from nnsam.training.trainer_names import trainer_class


@pytest.fixture
def trainer(make_trainer):
    trainer = make_trainer("nnSAMRandomEncoderTrainer_sam32_seed1")
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def test_a_bad_pixel_in_a_batch_names_its_case(trainer):
    batch = next(trainer.dataloader_train)
    batch["keys"] = ["case_7", "case_3"]
    before = {name: parameter.clone() for name, parameter in trainer.network.named_parameters()}
    for step in (trainer.train_step, trainer.validation_step):
        for value in (float("nan"), float("inf"), float("-inf")):
            batch["data"].zero_()
            batch["data"][1, 0, 5, 5] = value
            with pytest.raises(InputError, match="training case case_3 contains NaN or infinite values") as caught:
                step(batch)
            assert "case_7" not in str(caught.value)
            batch["data"][0, 0, 0, 0] = value
            with pytest.raises(InputError, match="training case case_3, case_7 contains"):
                step(batch)
    assert all(torch.equal(before[name], parameter) for name, parameter in trainer.network.named_parameters())


def test_constant_images_and_empty_masks_train(trainer):
    batch = next(trainer.dataloader_train)
    for target in batch["target"][:-1]:
        target.zero_()
    batch["target"][-1].fill_(1.0)
    losses = []
    for value in (0.0, 3.0, 0.0):
        batch["data"].fill_(value)
        losses.append(trainer.train_step(batch)["loss"])
    assert np.isfinite(losses).all()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.network.parameters())


@pytest.fixture(scope="module")
def network():
    cls = trainer_class("nnSAMRandomEncoderTrainer_sam32")
    return build_with(cls, make_plans(features=2), deep_supervision=False).eval()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_pixel_at_prediction_is_refused(network, value):
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 3, 3] = value
    with pytest.raises(InputError, match=r"NaN or infinite values .* nothing can be predicted"):
        network(image)


def test_a_constant_image_is_predicted(network):
    assert torch.isfinite(network(torch.full((1, 1, 64, 64), 5.0))).all()


def test_nnunets_sliding_window_passes_the_refusal_on(trained):
    cls = type(trained.trainer)
    plans = trained.trainer.plans_manager.plans
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=False)
    predictor.manual_initialization(
        build_with(cls, plans, outputs=6, deep_supervision=False),
        PlansManager(plans),
        trained.trainer.configuration_manager,
        [torch.load(trained.checkpoint, weights_only=False)["network_weights"]],
        trained.trainer.dataset_json,
        cls.__name__,
        None,
    )
    image = torch.randn(1, 1, 80, 100, generator=torch.Generator().manual_seed(0))
    assert predictor.predict_sliding_window_return_logits(image).shape == (6, 1, 80, 100)
    image[0, 0, 40, 40] = float("nan")
    with pytest.raises(InputError, match="nothing can be predicted"):
        predictor.predict_sliding_window_return_logits(image)
