"""Training on the CPU: what is chosen, that it computes the same, and that a wrong result is refused."""

import pytest
import torch
from helpers.plans import make_plans
from torch import nn

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.networks import FusedUNet, SAMBranch, build_nnsam_unet
from nnsam.networks.legacy import LegacySAMBranch
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.training import acceleration as cpu_acceleration
from nnsam.training.acceleration import CPUAcceleration, check_settings, cpu_precision, has_bfloat16
from nnsam.training.trainer_names import trainer_class


class Encoder(nn.Module):
    """Stands in for the SAM encoder, which takes OpenVINO seconds to compile."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 256, kernel_size=16, stride=16)
        self.requires_grad_(False).eval()

    def forward(self, image):
        return self.embed(image)


class FakeRuntime:
    """Stands in for OpenVINO, with a difference to PyTorch and an error of the test's choice."""

    difference = 0.0
    error: Exception | None = None

    def __init__(self, module, precision, threads):
        if self.error is not None:
            raise self.error

    def relative_difference(self, image) -> float:
        return self.difference

    def __call__(self, image):
        return torch.zeros(len(image), 256, 2, 2)


@pytest.fixture
def network() -> FusedUNet:
    torch.manual_seed(0)
    branch = SAMBranch(Encoder(), 32)
    network = build_nnsam_unet(make_plans(features=2), branch, input_channels=1, num_classes=3).eval()
    nn.init.normal_(network.fusion.project.weight, std=0.1)  # lets the embedding take part
    return network


@pytest.fixture
def fake(monkeypatch):
    """Takes the place of OpenVINO and of the clock: the first of the two measured times is OpenVINO's."""
    monkeypatch.setenv("NNSAM_CPU_PRECISION", "float32")
    return type("Fake", (FakeRuntime,), {"times": [0.1, 0.2]})


def patch() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def accelerate(network, fake=None) -> tuple[CPUAcceleration, str]:
    lines: list[str] = []
    options = {}
    if fake is not None:
        options = {"compile_encoder": fake, "timer": lambda function: (function(), fake.times.pop(0))[1]}
    acceleration = CPUAcceleration(network, patch(), lines.append, **options)
    return acceleration, "\n".join(lines)


def test_float32_through_openvino_equals_pytorch(network, monkeypatch):
    monkeypatch.setenv("NNSAM_CPU_PRECISION", "float32")
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "openvino")
    with torch.no_grad():
        expected = network(patch())
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        acceleration, log = accelerate(network)
        assert network.sam.runtime is None
        acceleration.enable()
        assert network.sam.runtime is not None
        assert not network.cpu_autocast
        for found, output in zip(network(patch()), expected, strict=True):
            torch.testing.assert_close(found, output, atol=1e-4, rtol=1e-4)
        acceleration.disable()
        assert network.sam.runtime is None
        assert all(torch.equal(found, output) for found, output in zip(network(patch()), expected, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert "training on the CPU in float32" in log
    assert "SAM encoder in OpenVINO; per batch OpenVINO f32" in log


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16 instructions")
def test_bfloat16_is_chosen_where_the_processor_has_it(network, monkeypatch):
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "openvino")
    with torch.no_grad():
        expected = network(patch())
        acceleration, log = accelerate(network)
        acceleration.enable()
        rounded = network(patch())
        acceleration.disable()
    assert "bfloat16 (autocast)" in log
    assert "OpenVINO bf16" in log
    for found, output in zip(rounded, expected, strict=True):
        assert found.dtype == torch.float32
        assert 0 < (found - output).abs().max() < 0.2


@pytest.mark.parametrize(
    ("value", "able", "chosen"),
    [("", True, "bf16"), ("", False, "f32"), (" Auto ", True, "bf16"), ("float32", True, "f32"), ("f32", True, "f32")],
)
def test_the_precision_follows_the_processor_unless_set(monkeypatch, value, able, chosen):
    monkeypatch.setenv("NNSAM_CPU_PRECISION", value)
    monkeypatch.setattr(cpu_acceleration, "has_bfloat16", lambda: able)
    assert cpu_precision() == chosen


def test_bfloat16_without_instructions_for_it_warns(monkeypatch):
    monkeypatch.setenv("NNSAM_CPU_PRECISION", "bfloat16")
    monkeypatch.setattr(cpu_acceleration, "has_bfloat16", lambda: False)
    with pytest.warns(NnsamWarning, match="will be slow"):
        assert cpu_precision() == "bf16"


@pytest.mark.parametrize("variable", ["NNSAM_CPU_PRECISION", "NNSAM_CPU_ENCODER"])
def test_unknown_settings_are_refused_with_those_that_are_known(monkeypatch, variable):
    check_settings()
    monkeypatch.setenv(variable, "half")
    with pytest.raises(InputError, match=f"{variable}='half' is unknown; expected one of auto, "):
        check_settings()


def test_the_quicker_encoder_is_used(network, fake):
    acceleration, log = accelerate(network, fake)
    acceleration.enable()
    assert isinstance(network.sam.runtime, fake)
    assert "SAM encoder in OpenVINO" in log
    fake.times[:] = [0.2, 0.1]
    acceleration, log = accelerate(network, fake)
    acceleration.enable()
    assert network.sam.runtime is None
    assert "SAM encoder in PyTorch; per batch OpenVINO" in log


@pytest.mark.parametrize("difference", [2e-3, 0.5, float("nan"), float("inf")])
def test_a_wrong_result_of_openvino_is_refused(network, fake, monkeypatch, difference):
    fake.difference = difference
    acceleration, log = accelerate(network, fake)
    acceleration.enable()
    assert network.sam.runtime is None
    assert "SAM encoder in PyTorch, because OpenVINO's f32 embedding differs" in log
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "openvino")
    with pytest.raises(SetupError, match=r"differs from PyTorch's .* more than 0\.1%"):
        accelerate(network, fake)


def test_without_openvino_pytorch_does_the_work(network, fake, monkeypatch):
    fake.error = SetupError("OpenVINO is not installed")
    acceleration, log = accelerate(network, fake)
    acceleration.enable()
    assert network.sam.runtime is None
    assert "SAM encoder in PyTorch (OpenVINO is not installed)" in log
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "openvino")
    with pytest.raises(SetupError, match="not installed"):
        accelerate(network, fake)


def test_pytorch_may_be_asked_for(network, fake, monkeypatch):
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "torch")
    acceleration, _ = accelerate(network, fake)
    acceleration.enable()
    assert network.sam.runtime is None
    assert len(fake.times) == 2


def test_the_legacy_encoder_is_never_replaced(network, fake, monkeypatch):
    # It normalises by the batch in training; a compiled copy would keep the statistics of the start.
    network.sam = LegacySAMBranch(MobileSAMEncoder(), 32)
    monkeypatch.setenv("NNSAM_CPU_ENCODER", "openvino")
    acceleration, _ = accelerate(network, fake)
    acceleration.enable()
    assert network.sam.runtime is None
    assert trainer_class("nnSAMLegacyTrainer").branch_class is LegacySAMBranch


def test_a_network_without_sam_is_accelerated_too(network, monkeypatch):
    monkeypatch.setenv("NNSAM_CPU_PRECISION", "bfloat16")
    monkeypatch.setattr(cpu_acceleration, "has_bfloat16", lambda: True)
    network.sam = network.fusion = None
    acceleration, _ = accelerate(network)
    acceleration.enable()
    assert network.cpu_autocast
    acceleration.disable()
    assert not network.cpu_autocast
