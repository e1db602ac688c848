"""The network of the released code: where it fuses, what it feeds the encoder, what it does to the weights."""

import copy

import pytest
import torch
from helpers.official_names import skip_initialisation
from helpers.plans import PLAIN, RESENC, make_plans

from nnsam.errors import InputError
from nnsam.networks.fused_unet import architecture_of, build_unet
from nnsam.networks.legacy import SKIP, LegacyFusedUNet, LegacyInput, LegacySAMBranch


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    skip_initialisation(monkeypatch)


def network(encoder, family: str = PLAIN, stages: int = 6) -> LegacyFusedUNet:
    unet = build_unet(architecture_of(make_plans(family, stages, features=2), "2d"), 1, 3, True)
    return LegacyFusedUNet(unet, LegacySAMBranch(encoder, 32))


def patch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("family", "stages"), [(PLAIN, 5), (PLAIN, 6), (PLAIN, 8), (RESENC, 5), (RESENC, 7)])
def test_the_embedding_reaches_the_decoder_stage_of_the_fourth_skip_at_any_depth(encoder, family, stages):
    legacy = network(encoder, family, stages)
    side = 2**stages
    seen = {}
    for index, stage in enumerate(legacy.decoder.stages):
        stage.register_forward_pre_hook(lambda _, inputs, index=index: seen.update({index: inputs[0].shape[1:]}))
    outputs = legacy(patch(2, 1, side, side))
    features = legacy.encoder.output_channels
    for index, (channels, height, _) in seen.items():
        skip = stages - 2 - index
        assert channels == 2 * features[skip] + (256 if skip == SKIP else 0)
        assert height == side // 2**skip
    assert len(outputs) == stages - 1
    sum(output.square().mean() for output in outputs).backward()
    assert all(p.grad is not None for p in legacy.parameters() if p.requires_grad)


def test_a_network_without_a_fifth_stage_is_refused(encoder):
    with pytest.raises(InputError, match="at least 5 stages, and these plans have 4"):
        network(encoder, stages=4)


def test_the_encoder_gets_the_z_scored_patch(encoder):
    image = patch(2, 1, 32, 32)
    assert torch.equal(LegacyInput(32)(image), image.expand(-1, 3, -1, -1))
    assert LegacyInput(64)(patch(1, 3, 48, 48)).shape == (1, 3, 64, 64)
    with pytest.raises(InputError, match="1 or 3 channels; found 2"):
        LegacyInput(32)(patch(1, 2, 32, 32))


def test_reinitialising_changes_29_convolutions_which_are_17_5_percent(encoder):
    branch = LegacySAMBranch(encoder, 32)
    before = copy.deepcopy(branch.encoder.state_dict())
    branch.reinitialize_convolutions(seed=1)
    after = branch.encoder.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    convolutions = {
        f"{name}.weight" for name, module in branch.encoder.named_modules() if isinstance(module, torch.nn.Conv2d)
    }
    assert changed == convolutions
    assert len(changed) == 29
    parameters = sum(after[name].numel() for name in changed)
    assert parameters == 1_007_616
    assert parameters / sum(p.numel() for p in branch.parameters()) == pytest.approx(0.175, abs=5e-4)


def test_the_new_convolutions_depend_on_the_seed_alone(encoder):
    # In distributed training each process makes them, and frozen weights are not exchanged.
    states = []
    for noise, seed in ((1, 7), (2, 7), (1, 8)):
        torch.manual_seed(noise)
        branch = LegacySAMBranch(encoder, 32)
        branch.reinitialize_convolutions(seed)
        states.append(branch.encoder.state_dict())
    first, same, other = states
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    assert sum(not torch.equal(tensor, other[name]) for name, tensor in first.items()) == 29


def test_54_batch_norm_statistics_drift_in_training_and_none_in_evaluation(encoder):
    branch = LegacySAMBranch(encoder, 32)
    before = copy.deepcopy(branch.encoder.state_dict())

    def drifted():
        state = branch.encoder.state_dict()
        return [name for name, tensor in state.items() if not torch.equal(tensor, before[name])]

    branch.eval()
    branch(patch(2, 1, 32, 32))
    assert drifted() == []
    branch.train()
    assert any(module.training for module in branch.encoder.modules())
    branch(patch(2, 1, 32, 32))
    statistics = [name for name in drifted() if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 54
    assert all(name in statistics or name.endswith("num_batches_tracked") for name in drifted())


def test_the_given_encoder_stays_as_it_is(encoder):
    before = copy.deepcopy(encoder.state_dict())
    branch = LegacySAMBranch(encoder, 32).train()
    branch.reinitialize_convolutions()
    branch(patch(2, 1, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
