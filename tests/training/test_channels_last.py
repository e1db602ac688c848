"""Channels last: the same values and gradients, and the way back."""

import pytest
import torch
from torch import nn

from nnsam.training.acceleration import ChannelsLast, instance_norm


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    norms = [nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(8, affine=False, eps=1e-3)]
    for norm in norms[:1]:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Conv2d(1, 8, 3), norms[0], nn.LeakyReLU(), nn.Conv2d(8, 8, 3, stride=2), norms[1]).double()


def output_and_gradients(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    network.zero_grad()
    output = network(x)
    (output**3).sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in network.parameters())]


def close(first, second) -> bool:
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(first, second, strict=True))


@pytest.fixture
def x():
    return torch.randn(3, 1, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_values_and_gradients_are_the_usual_ones(x):
    network = make_network()
    usual = output_and_gradients(network, x)
    layout = ChannelsLast(network, network[0])
    layout.enable()
    assert close(output_and_gradients(network, x), usual)


def test_the_comparison_can_fail(x):
    network = make_network()
    usual = output_and_gradients(network, x)
    nn.init.zeros_(network[1].weight)
    assert not close(output_and_gradients(network, x), usual)


def test_the_layout_of_weights_and_features_is_channels_last(x):
    network = make_network()
    ChannelsLast(network).enable()
    assert network[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert network(x).is_contiguous(memory_format=torch.channels_last)


def test_switching_back_leaves_no_trace(x):
    network, fresh = make_network(), make_network()
    layout = ChannelsLast(network)
    layout.enable()
    layout.disable()
    assert network[3].weight.is_contiguous()
    assert "forward" not in network[1].__dict__
    for (name, ours), (_, theirs) in zip(network.state_dict().items(), fresh.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), name
    assert torch.equal(network(x), fresh(x))


def test_running_statistics_are_left_alone():
    network = nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True))
    ChannelsLast(network).enable()
    assert "forward" not in network[0].__dict__


def test_samples_are_normalised_one_by_one():
    x = (
        torch.randn(4, 2, 5, 6, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 10, 100, 1000.0])[:, None, None, None]
    )
    result = instance_norm(nn.InstanceNorm2d(2), x)
    assert torch.allclose(result.mean(dim=(2, 3)), torch.zeros(4, 2), atol=1e-5)
    assert torch.allclose(result.var(dim=(2, 3), unbiased=False), torch.ones(4, 2), atol=1e-3)
