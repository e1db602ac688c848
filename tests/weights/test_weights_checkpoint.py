"""Reading tensors: the layouts that occur, damaged files, and files that would run code."""

import os
import pickle

import pytest
import torch

from nnsam.errors import WeightsError
from nnsam.weights import read_tensors


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    return {
        "image_encoder.a": torch.randn(3, 4, generator=generator),
        "image_encoder.b": torch.arange(5),
        "mask_decoder.a": torch.ones(2, dtype=torch.float16),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_comparison_helper_can_fail(tensors):
    for wrong in ({**tensors, "x": torch.ones(1)}, {**tensors, "mask_decoder.a": torch.ones(2)}):
        with pytest.raises(AssertionError):
            assert_same(wrong, tensors)


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dict(path, tensors, zipped):
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_tensors(path), tensors)
    assert_same(read_tensors(str(path), "mask_decoder."), {"a": tensors["mask_decoder.a"]})
    assert read_tensors(path, "absent.") == {}


@pytest.mark.parametrize("entry", ["model", "state_dict"])
def test_wrapped_as_training_scripts_do(path, tensors, entry):
    torch.save({entry: tensors, "epoch": 3, "optimizer": {"state": {0: torch.ones(1)}}}, path)
    assert_same(read_tensors(path), tensors)


def test_module_with_a_parameter_named_model(path):
    content = {"model": torch.ones(2), "state_dict": torch.zeros(1)}
    torch.save(content, path)
    assert_same(read_tensors(path), content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.ones(1)], "a list"),
        (torch.ones(1), "a Tensor"),
        ({}, "an empty mapping"),
        ({1: torch.ones(1)}, "a mapping without names"),
        ({"a": torch.ones(1), "lr": 0.1}, "'lr' is a float"),
        ({"model": {"a": torch.ones(1)}, "state_dict": {"a": torch.ones(1)}}, "'model' is a dict"),
    ],
)
def test_other_content(path, content, found):
    torch.save(content, path)
    with pytest.raises(WeightsError, match=f"holds .*{found}.* expected a mapping of names to tensors"):
        read_tensors(path)


def test_missing_and_folder(tmp_path, path):
    with pytest.raises(WeightsError, match="is missing"):
        read_tensors(path)
    with pytest.raises(WeightsError, match="is a folder"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated(path, tensors, zipped, share):
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match="truncated or not a PyTorch checkpoint"):
        read_tensors(path)


@pytest.mark.parametrize(
    "data", [b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(5000)]
)
def test_not_a_checkpoint(path, data):
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="truncated or not a PyTorch checkpoint"):
        read_tensors(path)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle", "among tensors"])
def test_code_is_refused_and_not_run(tmp_path, path, tensors, how):
    trap = tmp_path / "code_ran"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"a": Payload(trap)}, protocol=2))
    else:
        content = {**tensors, "x": Payload(trap)} if how == "among tensors" else Payload(trap)
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    with pytest.raises(WeightsError, match=r"refused because loading it would run code \(it asks for \w+\.mkdir\)"):
        read_tensors(path)
    assert not trap.exists()
    # The trap works: unrestricted loading springs it.
    if how == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trap.exists()


class BuiltIn:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_a_built_in_function_is_refused_as_code(path):
    torch.save({"x": BuiltIn()}, path)
    with pytest.raises(WeightsError, match=r"would run code \(it asks for \w*\.?exec\)"):
        read_tensors(path)


def test_whole_module_is_refused(path):
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"would run code \(it asks for torch\.nn\.modules\.linear\.Linear\)"):
        read_tensors(path)
