"""The course of a training: curvature's warm-up, targets and outputs that fit, seeds, speed switched off at the end."""

import random

import numpy as np
import pytest
import torch
from helpers.toy import create, set_up
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnsam.training.trainer_names import trainer_class

CONTROL = "nnSAMRandomEncoderTrainer_sam32"  # needs no weights


def test_the_curvature_term_warms_up_over_a_fifth_of_the_epochs(make_trainer):
    trainer = make_trainer(f"{CONTROL}_20epochs")
    trainer.initialize()
    scales = []
    for epoch in range(6):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        scales.append(trainer.loss.level_set_loss.curvature_scale)
    assert scales == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    trainer.curvature_warmup = 0
    trainer.on_train_epoch_start()
    assert trainer.loss.level_set_loss.curvature_scale == 1.0


def test_outputs_and_targets_fit_one_level_set_per_foreground_class(make_trainer):
    trainer = make_trainer(CONTROL)
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    output = trainer.network.train()(batch["data"])
    assert len(output) == len(batch["target"]) == 5
    assert output[-1].shape == batch["target"][-1].shape == (2, 5, 64, 64)
    assert batch["target"][-1].dtype == torch.float32
    assert [logits.shape[2:] for logits in output[:-1]] == [target.shape[2:] for target in batch["target"][:-1]]
    assert trainer.loss(output, batch["target"]).isfinite()
    trainer.on_train_epoch_start()
    assert trainer.loss.pop_means() == {}  # what was computed before an epoch does not count in it


def test_without_level_sets_output_target_and_loss_are_nnunets(make_trainer, official):
    trainer = make_trainer("nnSAMNoLevelSetTrainer_sam32")
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    assert len(trainer.network.train()(batch["data"])) == len(batch["target"]) == 4
    assert type(trainer.loss).__name__ == "DeepSupervisionWrapper"


def test_a_loss_part_is_not_carried_from_validation_into_the_next_epoch(trained):
    assert trained.trainer.loss.pop_means() == {}


def test_a_level_set_head_that_learnt_nothing_is_told(make_trainer):
    trainer = make_trainer("nnSAMLevelSetOnlyTrainer_1epochs_1iters")
    trainer.on_train_start()
    said = []
    trainer.print_to_log_file = lambda *words, **_: said.append(" ".join(map(str, words)))
    nan = float("nan")
    for parts, warned in (
        ({"level_set_share": 1.0}, "is 1.00 of what a constant has"),
        ({"level_set_share": nan}, "is nan of what a constant has"),
        ({"level_set_share": 0.3}, ""),
        ({}, ""),  # --c on a finished training
    ):
        said.clear()
        trainer._train_parts = parts
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nnUNetTrainer, "on_train_end", lambda self: None)
            trainer.on_train_end()
        assert warned in "".join(said)
        assert ("learnt nothing" in "".join(said)) == bool(warned)


def trained_weights(toy, results, seed: int | None) -> dict[str, torch.Tensor]:
    """Two iterations through nnU-Net's loader and augmentation in this process (nnUNet_n_proc_DA=0)."""
    name = CONTROL if seed is None else f"{CONTROL}_seed{seed}"
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, toy, results)
        trainer = create(toy, name)
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        for _ in range(2):
            trainer.train_step(next(trainer.dataloader_train))
    return trainer.network.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_equal_seeds_give_equal_weights_and_others_do_not(toy, tmp_path):
    first, again, other = (trained_weights(toy, tmp_path, seed) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)
    assert not torch.equal(first["sam.encoder.neck.0.weight"], other["sam.encoder.neck.0.weight"])
    unseeded = trained_weights(toy, tmp_path, None)
    assert not same({k: v for k, v in first.items() if k.startswith("decoder.")}, unseeded)


def test_processes_of_a_distributed_training_draw_different_samples_for_the_same_network(make_trainer):
    drawn, networks = [], []
    for rank in (0, 3, 0):
        trainer = make_trainer(f"{CONTROL}_seed4294967295")
        trainer.local_rank = rank
        trainer.on_train_start()
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
        networks.append(trainer.network.state_dict())
    assert drawn[0] == drawn[2]
    assert all(first != second for first, second in zip(*drawn[:2], strict=True))
    assert same(networks[0], networks[1])


def test_the_final_validation_computes_exactly(trained, monkeypatch):
    base = trainer_class("nnSAMTrainer").__mro__[1]
    seen = []
    monkeypatch.setattr(base, "perform_actual_validation", lambda self, npz: seen.append((state(self), npz)))
    acceleration, network = trained.trainer._acceleration, trained.trainer.bare_network
    acceleration._bfloat16 = True
    acceleration._runtime = lambda image: None
    try:
        acceleration.enable()
        assert state(trained.trainer) == (True, True)
        trained.trainer.perform_actual_validation(True)
    finally:
        acceleration._bfloat16, acceleration._runtime = False, None
        acceleration.disable()
    assert seen == [((False, False), True)]
    assert network.sam.runtime is None


def state(trainer) -> tuple[bool, bool]:
    return trainer.bare_network.cpu_autocast, trainer.bare_network.sam.runtime is not None
