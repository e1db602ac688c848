"""The encoder is frozen bit for bit through nnU-Net's own training, saving and loading; the legacy one is not."""

import pytest
import torch
from helpers.frozen import assert_frozen, changed_tensors, expected_state
from helpers.toy import SHA, create, set_up

from nnsam import weights
from nnsam.networks.sam_branch import Provenance
from nnsam.weights import WeightsSource


def step(trainer, count: int = 1) -> None:
    """Trains as nnU-Net does, on its own batches."""
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    for _ in range(count):
        trainer.train_step(next(trainer.dataloader_train))


def test_after_construction(make_trainer, official):
    trainer = make_trainer()
    trainer.initialize()
    assert_frozen(trainer)


def test_after_training(trained):
    optimizer = trained.trainer.optimizer
    settings = {key: optimizer.param_groups[0][key] for key in ("momentum", "nesterov", "weight_decay")}
    assert settings == {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    # nnU-Net gives the coarsest output's layer (weight and bias) a weight of 0 in the loss.
    assert len(optimizer.state) == sum(p.requires_grad for p in trained.trainer.network.parameters()) - 2
    assert_frozen(trained.trainer)


def test_the_rest_was_trained(trained, make_trainer, official):
    start = make_trainer()
    start.initialize()
    end = trained.trainer.network.state_dict()
    same = [key for key, tensor in start.network.state_dict().items() if torch.equal(tensor, end[key])]
    coarsest = {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}
    assert {key for key in same if not key.startswith("sam.")} <= coarsest


def test_in_the_checkpoint_that_nnunet_writes(trained):
    state = torch.load(trained.checkpoint, weights_only=False)["network_weights"]
    for name, tensor in expected_state().items():
        assert torch.equal(state[f"sam.encoder.{name}"], tensor), name


def test_after_loading_the_checkpoint_and_training_on(trained, make_trainer, no_weights, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(trained.results))
    trainer = make_trainer()
    trainer.output_folder = str(trained.folder / "resumed")
    trainer.load_checkpoint(str(trained.checkpoint))
    assert_frozen(trainer)
    assert trainer.current_epoch == 2
    step(trainer)
    assert_frozen(trainer)


def test_a_checkpoints_encoder_replaces_one_that_was_loaded_before(make_trainer, official, tmp_path):
    first, second = make_trainer(), make_trainer("nnSAMRandomEncoderTrainer_sam32_seed2")
    first.initialize()
    second.initialize()
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    second.network.eval()(image)  # fills timm's cache of attention biases
    first.save_checkpoint(str(tmp_path / "first.pth"))
    second.load_checkpoint(str(tmp_path / "first.pth"))
    assert changed_tensors(second) == []
    for output, expected in zip(second.network(image), first.network.eval()(image), strict=True):
        assert torch.equal(output, expected)


def test_no_batch_norm_drifts_in_training_mode(make_trainer, official):
    trainer = make_trainer()
    trainer.initialize()
    trainer.network.train()
    trainer.network(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert changed_tensors(trainer) == []


@pytest.fixture(scope="module")
def legacy(toy, checkpoint_file, tmp_path_factory):
    """nnSAMLegacyTrainer after one training step."""
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, toy, tmp_path_factory.mktemp("results"))
        patch.setattr(weights, "resolve", lambda: WeightsSource("official", checkpoint_file, SHA))
        trainer = create(toy, "nnSAMLegacyTrainer_sam32_seed1")
        trainer.initialize()
        trainer.changed_by_construction = changed_tensors(trainer)
        step(trainer)
    return trainer


def test_the_released_code_re_initialises_17_5_percent_of_the_encoder(legacy):
    encoder = legacy.bare_network.sam.encoder
    convolutions = [f"{name}.weight" for name, m in encoder.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(legacy.changed_by_construction) == sorted(convolutions)
    assert len(convolutions) == 29
    parameters = sum(encoder.get_parameter(name).numel() for name in convolutions)
    assert parameters == 1_007_616
    assert round(100 * parameters / sum(p.numel() for p in encoder.parameters()), 1) == 17.5


def test_the_released_code_lets_54_batch_norm_statistics_drift(legacy):
    drifted = set(changed_tensors(legacy)) - set(legacy.changed_by_construction)
    statistics = {name for name in drifted if name.endswith(("running_mean", "running_var"))}
    assert len(statistics) == 54
    assert {name.rsplit(".", 1)[1] for name in drifted - statistics} == {"num_batches_tracked"}


def test_the_released_code_fails_the_check(legacy):
    with pytest.raises(AssertionError):
        assert_frozen(legacy)
    assert legacy.bare_network.sam.provenance.kind == "custom"
    assert legacy.bare_network.sam.provenance.sha256 != SHA


@pytest.mark.parametrize("defect", ["weight", "buffer", "gradient", "optimizer", "mode"])
def test_each_defect_alone_fails_the_check(make_trainer, official, defect):
    trainer = make_trainer()
    trainer.initialize()
    encoder = trainer.bare_network.sam.encoder
    parameter = encoder.neck[0].weight
    with torch.no_grad():
        if defect == "weight":
            parameter[0, 0] += 1e-7
        elif defect == "buffer":
            encoder.backbone.patch_embed.conv1.bn.running_var[0] *= 1.001
        elif defect == "gradient":
            parameter.requires_grad_()
        elif defect == "optimizer":
            trainer.optimizer.param_groups[0]["params"].append(parameter)
        else:
            encoder.backbone.stages.training = True
    with pytest.raises(AssertionError):
        assert_frozen(trainer)


def test_what_is_recorded_of_the_weights_survives_nnunets_checkpoint(trained):
    assert trained.trainer.bare_network.sam.provenance == Provenance("official", SHA)
    state = torch.load(trained.checkpoint, weights_only=False)["network_weights"]
    assert Provenance.from_tensor(state["sam.origin"]) == Provenance("official", SHA)
