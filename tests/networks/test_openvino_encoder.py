"""The frozen encoder through OpenVINO: equal to PyTorch, independent results, and a check that can fail."""

import math
import sys

import pytest
import torch
from torch import nn

from nnsam.errors import SetupError
from nnsam.networks.openvino_encoder import RELATIVE_TOLERANCE, OpenVINOEncoder


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def runtime(encoder):
    return OpenVINOEncoder(encoder, "f32", threads=1)


def test_float32_equals_pytorch(runtime, encoder):
    assert runtime.relative_difference(image(2, 3, 64, 64)) < 1e-5
    torch.testing.assert_close(runtime(image(2, 3, 64, 64)), encoder(image(2, 3, 64, 64)), atol=1e-4, rtol=1e-4)


class Small(nn.Module):
    """A convolution: what does not depend on the encoder compiles in an instant here."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x)


class Sharing(OpenVINOEncoder):
    """OpenVINO gives views of its output buffers where it is asked to, in some versions by default."""

    def compile(self, shape):
        compiled = super().compile(shape)
        return lambda x: compiled(x, share_outputs=True)


def test_results_are_copies():
    runtime, shape = Sharing(Small().eval()), (2, 3, 8, 8)
    first = runtime(image(*shape))
    kept = first.clone()
    second = runtime(image(*shape, seed=1))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)
    first.add_(1)  # nnU-Net accumulates in place
    assert torch.equal(runtime(image(*shape)), kept)


def test_each_shape_is_compiled_once_and_strided_input_is_read_correctly():
    module, compiled = Small().eval(), []

    class Counting(OpenVINOEncoder):
        def compile(self, shape):
            compiled.append(shape)
            return super().compile(shape)

    runtime = Counting(module)
    for shape in ((1, 3, 8, 8), (2, 3, 8, 16), (1, 3, 8, 8)):
        torch.testing.assert_close(runtime(image(*shape)), module(image(*shape)), atol=1e-5, rtol=1e-5)
    strided = image(1, 8, 8, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(runtime(strided), module(strided), atol=1e-5, rtol=1e-5)
    assert compiled == [(1, 3, 8, 8), (2, 3, 8, 16)]


def test_the_difference_shows_a_wrong_module_and_nan():
    module = Small().eval()
    runtime = OpenVINOEncoder(module)
    x = image(1, 3, 8, 8)
    assert runtime.relative_difference(x) < 1e-5
    with torch.no_grad():
        module.layer.weight.mul_(1.01)  # the compiled model keeps the old weights
        assert runtime.relative_difference(x) > RELATIVE_TOLERANCE["f32"]
        module.layer.weight.fill_(float("nan"))
    assert math.isnan(runtime.relative_difference(x))


def test_the_reference_is_float32_also_under_autocast():
    module = Small().eval()
    runtime = OpenVINOEncoder(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert runtime.relative_difference(image(1, 3, 8, 8)) < 1e-5


def test_without_openvino_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SetupError, match="pip install"):
        OpenVINOEncoder(Small())
