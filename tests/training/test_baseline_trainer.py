"""The control that adds nothing: the same network, loss and step as nnU-Net's trainer."""

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnsam.training.trainer_names import trainer_class


def stock_and_baseline(make_trainer):
    baseline = make_trainer("nnSAMBaselineTrainer_seed1")
    baseline.initialize()
    network = nnUNetTrainer.build_network_architecture(
        baseline.plans_manager, baseline.configuration_manager, 1, baseline.label_manager.num_segmentation_heads, True
    )
    return network, baseline


def test_its_tensors_are_those_of_nnunet_and_so_is_what_they_compute(make_trainer, no_weights):
    stock, baseline = stock_and_baseline(make_trainer)
    stock.load_state_dict(baseline.network.state_dict(), strict=True)
    patch = torch.randn(2, 1, 64, 64)
    for expected, found in zip(stock(patch), baseline.network(patch), strict=True):
        assert torch.equal(expected, found)


def test_its_loss_is_that_of_nnunet(make_trainer, no_weights):
    stock, baseline = stock_and_baseline(make_trainer)
    logits = [output.detach() for output in stock(torch.randn(2, 1, 64, 64))]
    target = [torch.randint(0, output.shape[1], (2, 1, *output.shape[2:])).float() for output in logits]
    expected = nnUNetTrainer._build_loss(baseline)(logits, target)
    assert torch.equal(baseline.loss(logits, target), expected)


def test_budget_and_seed_come_from_the_name():
    cls = trainer_class("nnSAMBaselineTrainer_3epochs_7iters_seed2")
    assert (cls.epochs, cls.iterations, cls.seed, cls.use_sam, cls.use_level_sets) == (3, 7, 2, False, False)
