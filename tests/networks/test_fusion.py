"""Fusion at the bottleneck: the identity at step 0, for every depth and both families of nnU-Net's networks."""

import copy

import pytest
import torch
from helpers.plans import PLAIN, RESENC, make_plans

from nnsam.networks import BottleneckFusion, FusedUNet, SAMBranch, build_nnsam_unet
from nnsam.networks.fused_unet import architecture_of, build_unet


def image(stages: int, seed: int = 0) -> torch.Tensor:
    # The bottleneck is 2 x 3, as InstanceNorm needs more than one pixel.
    side = 2 ** (stages - 1)
    return torch.randn(2, 1, 2 * side, 3 * side, generator=torch.Generator().manual_seed(seed))


def pair(encoder, network: str = PLAIN, stages: int = 5, deep_supervision: bool = True, **options):
    """nnSAM's network and nnU-Net's with the same weights."""
    plans = make_plans(network, stages, features=2)
    options |= {"sam_size": 32, "deep_supervision": deep_supervision}
    ours = build_nnsam_unet(plans, encoder, input_channels=1, num_classes=3, **options)
    plain = build_unet(architecture_of(plans, "2d"), 1, 3, deep_supervision)
    theirs = plain.state_dict()
    assert set(theirs) < set(ours.state_dict())
    ours.load_state_dict(theirs, strict=False)
    return ours, plain


@pytest.mark.parametrize("stages", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("network", [PLAIN, RESENC])
def test_step_0_is_plain_nnunet(encoder, network, stages):
    ours, plain = pair(encoder, network, stages)
    patch = image(stages)
    for training in (True, False):
        *found, level_sets = ours.train(training)(patch)
        expected = plain.train(training)(patch)
        assert len(found) == stages - 1
        for ours_out, plain_out in zip(found, expected, strict=True):
            torch.testing.assert_close(ours_out, plain_out, atol=1e-6, rtol=1e-6)
        assert level_sets.shape == (2, 2, *patch.shape[2:])
    ours.decoder.deep_supervision = plain.decoder.deep_supervision = False
    torch.testing.assert_close(ours(patch), plain(patch), atol=1e-6, rtol=1e-6)


def test_the_comparison_above_sees_a_projection_that_is_no_identity(encoder):
    ours, plain = pair(encoder, deep_supervision=False)
    with torch.no_grad():
        ours.fusion.project.weight[0, -1] = 1e-2
    assert (ours(image(5)) - plain(image(5))).abs().max() > 1e-5


def test_without_sam_or_level_sets_nothing_is_added(encoder):
    bare, _ = pair_without(None, level_sets=0)
    assert bare.sam is None
    assert bare.fusion is None
    assert bare.level_set_head is None
    assert len(bare(image(5))) == 4
    assert not any(key.startswith(("sam.", "fusion.", "level_set_head.")) for key in bare.state_dict())
    with_head, _ = pair_without(None, level_sets=2)
    assert with_head(image(5))[-1].shape[1] == 2


def pair_without(branch, level_sets):
    plain = build_unet(architecture_of(make_plans(features=2), "2d"), 1, 3, True)
    return FusedUNet(copy.deepcopy(plain), branch, level_sets), plain


def test_the_embedding_gets_a_gradient_from_the_first_step_and_is_used_from_the_second(encoder):
    ours, _ = pair(encoder)
    optimizer = torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.1, momentum=0.9, nesterov=True)
    weight, channels = ours.fusion.project.weight, ours.fusion.project.out_channels
    for step in range(2):
        optimizer.zero_grad()
        sum(output.square().mean() for output in ours(image(5, step))).backward()
        assert weight.grad[:, channels:].abs().max() > 0
        optimizer.step()
    assert weight[:, channels:].abs().max() > 0
    with torch.no_grad():
        ours.decoder.deep_supervision = False
        changed = ours(image(5))
        ours.sam.runtime = lambda sam_input: torch.zeros(len(sam_input), 256, 2, 2)
        assert not torch.equal(ours(image(5)), changed)


def test_every_trainable_parameter_gets_a_gradient(encoder):
    ours, _ = pair(encoder, RESENC)
    sum(output.square().mean() for output in ours(image(5))).backward()
    without = [
        name for name, parameter in ours.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []


@pytest.mark.parametrize("embedding", [(2, 2), (8, 8), (64, 64), (2, 64)])
def test_embeddings_of_any_size_are_resized_to_the_bottleneck(embedding):
    fusion = BottleneckFusion(4, embedding_channels=2)
    bottleneck = torch.randn(1, 4, 6, 5)
    assert torch.equal(fusion(bottleneck, torch.randn(1, 2, *embedding)), bottleneck)
    with torch.no_grad():
        fusion.project.weight[0, 4] = 1
    constant = torch.full((1, 2, *embedding), 3.0)
    torch.testing.assert_close(fusion(bottleneck, constant)[:, 0], bottleneck[:, 0] + 3)


def test_the_level_set_head_may_leave_out_the_background(encoder):
    ours, _ = pair(encoder, level_sets=3)
    everything = ours(image(5))[-1]
    ours.level_set_head.skip = 1
    assert torch.equal(ours(image(5))[-1], everything[:, 1:])


def test_bfloat16_on_the_cpu_gives_float32_close_to_the_exact_result(encoder):
    ours, _ = pair(encoder)
    ours.eval()
    with torch.no_grad():
        exact = ours(image(5))
        ours.cpu_autocast = True
        rounded = ours(image(5))
    for found, expected in zip(rounded, exact, strict=True):
        assert found.dtype == torch.float32
        difference = (found - expected).square().mean().sqrt() / expected.std()
        assert 1e-4 < difference < 0.05


def test_switching_deep_supervision_off_returns_the_first_output(encoder):
    ours, _ = pair(encoder)
    first = ours(image(5))[0]
    ours.decoder.deep_supervision = False
    assert torch.equal(ours(image(5)), first)


def test_a_branch_may_be_given_ready_made(encoder):
    branch = SAMBranch(copy.deepcopy(encoder), size=64)
    network = build_nnsam_unet(make_plans(features=2), branch, input_channels=1, num_classes=2)
    assert network.sam is branch
    assert network.level_set_head is not None
    assert len(network(image(5))) == 5
