import math

import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn

from nnsam.losses import LevelSetLoss, SegmentationAndLevelSetLoss, regression_loss


def segmentation_loss(weights=(1.0, 0.5)):
    return DeepSupervisionWrapper(nn.MSELoss(), weights)


def batch(seed=0, levels=2, size=16):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 1, size >> level, size >> level) for level in range(levels)] + [(2, 1, size, size)]
    output = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    target = [torch.randn(shape, generator=generator).tanh() for shape in shapes]
    return output, target


@pytest.mark.parametrize("levels", [1, 2])
def test_is_the_sum_of_both_losses(levels):
    output, target = batch(levels=levels)
    weights = (1.0, 0.5)[:levels]
    total = SegmentationAndLevelSetLoss(segmentation_loss(weights), LevelSetLoss())(output, target)
    expected = sum(w * nn.functional.mse_loss(o, t) for w, o, t in zip(weights, output, target, strict=False))
    expected = expected + LevelSetLoss()(output[-1], target[-1]).total
    torch.testing.assert_close(total, expected)
    total.backward()
    assert all(o.grad is not None for o in output)


def test_lists_are_left_as_they_were():
    output, target = batch()
    before = [*output], [*target]
    SegmentationAndLevelSetLoss(segmentation_loss(), LevelSetLoss())(output, target)
    assert all(a is b for a, b in zip(output + target, before[0] + before[1], strict=True))


def test_means_of_the_parts_are_kept_until_popped():
    loss = SegmentationAndLevelSetLoss(segmentation_loss(), LevelSetLoss())
    assert loss.pop_means() == {}
    expected = {"segmentation": [], "level_set": [], "curvature": [], "constant": []}
    for seed in range(3):
        output, target = batch(seed)
        loss(output, target)
        terms = LevelSetLoss()(output[-1], target[-1])
        expected["segmentation"].append(segmentation_loss()(output[:-1], target[:-1]).item())
        expected["level_set"].append(terms.regression.item())
        expected["curvature"].append(terms.curvature.item())
        mean = output[-1].mean(dim=(0, 2, 3), keepdim=True).expand_as(target[-1])
        expected["constant"].append(regression_loss(mean, target[-1]).item())
    means = loss.pop_means()
    expected = {name: sum(values) / 3 for name, values in expected.items()}
    expected["level_set_share"] = expected["level_set"] / expected.pop("constant")
    assert means == pytest.approx(expected, rel=1e-6)
    assert all(type(value) is float for value in means.values())
    assert loss.pop_means() == {}


def test_means_hold_no_graph_and_enter_no_checkpoint():
    loss = SegmentationAndLevelSetLoss(segmentation_loss(), LevelSetLoss())
    loss(*batch())
    assert not any(value.requires_grad for value in loss._sums.values())
    assert loss.state_dict() == {}


def test_unknown_target_gives_the_head_a_zero_gradient():
    output, target = batch()
    target[-1] = torch.full_like(target[-1], math.nan)
    SegmentationAndLevelSetLoss(segmentation_loss(), LevelSetLoss())(output, target).backward()
    assert (output[-1].grad == 0).all()
    assert (output[0].grad != 0).any()


@pytest.mark.parametrize("case", ["tensors", "unequal", "alone"])
def test_wrong_structure_is_told(case):
    output, target = batch()
    pair = {"tensors": (output[0], target[0]), "unequal": (output, target[:-1]), "alone": (output[:1], target[:1])}
    with pytest.raises(ValueError, match="deep supervision"):
        SegmentationAndLevelSetLoss(segmentation_loss(), LevelSetLoss())(*pair[case])
