"""The paper's other methods through nnU-Net's trainer."""

import sys

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

from nnsam.errors import SetupError
from nnsam.training.trainer_names import trainer_class

NAMES = ["nnSAMBasicUNetTrainer", "nnSAMSwinUNETRTrainer", "nnSAMUNETRTrainer", "nnSAMAutoSAMTrainer_sam32"]


@pytest.fixture
def random_weights(monkeypatch):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_the_network_and_nothing_frozen(make_trainer, random_weights, name):
    pytest.importorskip("monai")
    trainer = make_trainer(f"{name}_seed1")
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    batch = next(trainer.dataloader_train)
    assert torch.is_tensor(batch["target"])  # no deep supervision
    assert isinstance(trainer.loss, DC_and_CE_loss)
    trainer.train_step(batch)
    changed = {key for key, tensor in trainer.network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed
    assert not any(key.startswith("sam.") for key in changed)
    adam = isinstance(trainer.optimizer, torch.optim.AdamW)
    assert adam == (trainer.adamw_rate is not None)
    assert trainer.optimizer.param_groups[0]["lr"] == (trainer.adamw_rate or 1e-2)


def test_nnunets_predictor_builds_the_same_network(make_trainer, random_weights):
    pytest.importorskip("monai")
    trainer = make_trainer("nnSAMBasicUNetTrainer")
    trainer.initialize()
    network = trainer_class("nnSAMBasicUNetTrainer").build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, trainer.label_manager.num_segmentation_heads, False
    )
    network.load_state_dict(trainer.network.state_dict(), strict=True)


def test_monai_is_missed_before_a_folder_is_made(make_trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(SetupError, match=r"MONAI's, which is not installed; (run|install)"):
        make_trainer("nnSAMBasicUNetTrainer")
