import logging
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest
import torch
from torch import nn

from nnsam.errors import InputError, SetupError
from nnsam.exporting import int8
from nnsam.exporting.comparison import hard_masks
from nnsam.exporting.conversion import to_openvino
from nnsam.exporting.int8 import (
    CONVOLUTIONS,
    is_transformer,
    mask_agreement,
    quantize,
    sensitive_operations,
)

pytest.importorskip("nncf")
SHAPE = (2, 16, 16)


class Net(nn.Module):
    """First, two middle, one of size 1, last."""

    def __init__(self, middle=2):
        super().__init__()
        blocks = [nn.Conv2d(2, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU()]
        for _ in range(middle):
            blocks += [nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU()]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(8, 8, 1), nn.LeakyReLU())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.blocks(x))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return to_openvino(Net().eval(), [SHAPE], ["patch"], "logits")


def operations_with_weights(model):
    """Name of every convolution and matrix product with constant weights -> whether these are 8-bit integers."""
    on_the_way = ("Convert", "Multiply", "Subtract", "FakeQuantize", "Reshape", "Transpose")
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in (*CONVOLUTIONS, "MatMul"):
            continue
        source, is_int8 = node.input_value(1).get_node(), False
        while source.get_type_name() in on_the_way:
            is_int8 |= source.get_type_name() == "FakeQuantize"
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant":
            found[node.get_friendly_name()] = is_int8 or source.get_element_type().get_type_name() in ("i8", "u8")
    return found


def quantized(model):
    """Number of operations with 8-bit weights."""
    return sum(operations_with_weights(model).values())


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(1, *SHAPE)).astype(np.float32),) for _ in range(count)]


def logits(model, batch):
    return np.array(ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch)[0])


def test_sensitive_operations_are_the_first_the_last_and_those_of_size_one(model):
    everything = list(operations_with_weights(model))
    kept = sensitive_operations(model)
    assert len(everything) == 5
    assert [everything.index(name) for name in kept] == [0, 3, 4]
    assert quantized(model) == 0
    assert not is_transformer(model)


def test_a_network_becomes_int8(model, capfd):
    before = logits(model, samples(1)[0][0])
    told = []
    result = quantize(model, samples(4), samples(4, 1), max_drop=1, progress=told.append)
    assert capfd.readouterr() == ("", "")
    assert quantized(result.model) == 2  # the other three are sensitive
    assert told[0].startswith("calibration on 4 inputs; about ")
    assert f"validation: agreement {result.agreement:.4f}" in told
    # The original is as it was, and the batch is free in both.
    np.testing.assert_array_equal(logits(model, samples(1)[0][0]), before)
    assert result.model.inputs[0].get_partial_shape()[0].is_dynamic
    both = np.concatenate([sample[0] for sample in samples(2, 2)])
    alone = np.concatenate([logits(result.model, one[None]) for one in both])
    np.testing.assert_allclose(logits(result.model, both), alone, atol=1e-4)
    assert not np.array_equal(logits(model, both), alone)
    assert np.sqrt(np.mean((logits(model, both) - alone) ** 2)) < 0.1 * alone.std()


def test_weights_leave_room_for_processors_that_add_up_in_16_bits(model):
    """Two products of 8-bit numbers, 2 * 255 * 127, exceed 16 bits; processors without VNNI saturate there."""
    result = quantize(model, samples(4), samples(2, 1), max_drop=1)
    constants = [node for node in result.model.get_ordered_ops() if node.get_type_name() == "Constant"]
    weights = [node.data for node in constants if node.get_element_type().get_type_name() in ("i8", "u8")]
    assert len(weights) == 2
    for values in weights:
        assert 2 * 255 * np.abs(values.astype(int)).max() <= 2**15
        assert np.abs(values.astype(int)).max() > 50  # what is left of the range is used


def test_the_agreement_is_that_of_the_result(model):
    validation = samples(5, 1)
    result = quantize(model, samples(4), validation, max_drop=1)
    found = []
    for (one,) in validation:
        expected, quantized = (logits(which, one)[0].argmax(0) for which in (model, result.model))
        for label in (1, 2):
            shared_pixels = np.count_nonzero((expected == label) & (quantized == label))
            found.append(
                2 * shared_pixels / (np.count_nonzero(expected == label) + np.count_nonzero(quantized == label))
            )
    assert result.agreement == pytest.approx(np.mean(found), abs=1e-9)
    assert 0.9 < result.agreement < 1


def test_the_same_inputs_give_the_same_network(model):
    first, second = (quantize(model, samples(4), samples(2, 1), max_drop=1) for _ in range(2))
    np.testing.assert_array_equal(logits(first.model, samples(1, 5)[0][0]), logits(second.model, samples(1, 5)[0][0]))
    assert first.agreement == second.agreement


def test_harmful_operations_are_taken_back(model):
    free = quantize(model, samples(4), samples(4, 1), max_drop=1)
    strict = quantize(model, samples(4), samples(4, 1), max_drop=1e-6)
    assert quantized(strict.model) < quantized(free.model) == 2
    assert strict.agreement > free.agreement


def test_the_time_of_the_search_is_told_before_it(model, monkeypatch):
    said = []
    quantize(model, samples(4), samples(4, 1), max_drop=1, progress=said.append)
    assert re.fullmatch(
        r"calibration on 4 inputs; about \d+ s, up to about \d+ s if the masks differ too much; --no-int8 .* out",
        said[0],
    )
    compare = SimpleNamespace(seconds=2.0, compiling=5.0)
    # 2 + 3 * 4 passes and three compilations; then 5 operations on 4 inputs, and 12 rounds, with a compilation each
    assert len(operations_with_weights(model)) == 5
    most = (14 * 2 + 3 * 5) + 5 * (4 * 2 + 5) + 12 * (4 * 2 + 5)
    assert most == 264
    assert int8._duration(compare, model, 2, 4).startswith("about 43 s, up to about 4 min ")


def test_int8_can_be_left_out():
    from nnsam.exporting.int8 import int8_is_wanted

    patches = SimpleNamespace(from_images=True)
    assert int8_is_wanted("auto", patches, True) == (True, "")
    assert int8_is_wanted("auto", patches, True, False) == (False, "int8 was left out, as asked")
    assert int8_is_wanted("f32", patches, True) == (False, "")


def test_other_masks_may_be_compared(model):
    seen = []

    def masks(output, index):
        seen.append(index)
        return hard_masks(output, has_regions=True)[0]

    result = quantize(model, samples(2), samples(3, 1), max_drop=1, masks=masks)
    assert set(seen) == {0, 1, 2}
    assert 0 < result.agreement <= 1


def test_attention_is_recognised():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            y = self.first(x)
            return self.second(torch.softmax(y @ y.transpose(-1, -2), -1) @ y)

    torch.manual_seed(0)
    converted = to_openvino(Attention().eval(), [SHAPE], ["patch"], "logits")
    assert is_transformer(converted)
    result = quantize(converted, samples(3), samples(2, 1), max_drop=1)
    assert quantized(result.model) == len(operations_with_weights(converted)) == 2


def test_int8_needs_images(model):
    with pytest.raises(InputError, match="needs images"):
        quantize(model, [], samples(1))
    with pytest.raises(InputError, match="needs images"):
        quantize(model, samples(1), [])


def test_without_nncf_the_user_is_told_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(SetupError, match=r"not installed; run.*: pip install "):
        quantize(model, samples(1), samples(1))


@pytest.mark.slow
def test_nncf_neither_reports_nor_prints_nor_changes_loggers(tmp_path):
    # In a process of its own: NNCF itself leaves its telemetry out under pytest.
    code = """
import logging, socket
def refuse(*args): raise AssertionError("network")
socket.socket.connect = refuse
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # PyTorch's about timm
    from nnsam.exporting.int8 import load_nncf
nncf = load_nncf()
from unittest.mock import MagicMock
from nncf.telemetry.wrapper import telemetry
assert isinstance(telemetry, MagicMock), telemetry
assert logging.getLoggerClass() is logging.Logger
assert not logging.getLogger("nncf").handlers
nncf_logger = logging.getLogger("nncf")
nncf_logger.info("silent")
import sys
assert sys.modules.get("openvino_telemetry", 0) is not None
"""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "intel").exists()


def test_a_level_that_the_program_chose_for_nncf_stays():
    code = """
import logging
logging.getLogger("nncf").setLevel(logging.ERROR)
from nnsam.exporting.int8 import load_nncf
load_nncf()
print(logging.getLogger("nncf").level)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["40"]), done.stderr


def test_messages_go_to_the_programs_own_handlers(model, caplog):
    with caplog.at_level(logging.INFO, logger="nncf"):
        quantize(model, samples(1), samples(1, 1), max_drop=1)
    assert any(record.name == "nncf" for record in caplog.records)


def test_masks():
    values = np.zeros((1, 3, 1, 2), np.float32)
    values[0, 1, 0, 0] = 1
    values[0, 2, 0, 1] = 2
    assert hard_masks(values, has_regions=False)[0].tolist() == [[[True, False]], [[False, True]]]
    assert hard_masks(values, has_regions=True)[0, :, 0].tolist() == [[False, False], [True, False], [False, True]]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([[1, 1, 0, 0]], [[1, 1, 0, 0]], 1.0),
        ([[1, 1, 0, 0]], [[1, 0, 0, 0]], 2 / 3),
        ([[1, 1, 0, 0]], [[0, 0, 1, 0]], 0.0),
        ([[1, 1, 0, 0], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 0]], 1.0),  # what is empty in both does not count
        ([[1, 1, 0, 0], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 1, 0, 0]], 0.5),
        ([[0, 0, 0, 0]], [[0, 0, 0, 0]], 1.0),
    ],
)
def test_mask_agreement(first, second, expected):
    assert mask_agreement(np.array(first, bool), np.array(second, bool)) == pytest.approx(expected)
