import pytest
import torch

from nnsam.errors import InputError
from nnsam.support.device import DEVICES, choose_device, training_device


@pytest.fixture
def machine(monkeypatch):
    """Makes PyTorch find these GPUs."""

    def have(*gpus):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in gpus)

    return have


@pytest.mark.parametrize(
    ("gpus", "flat", "volumes", "training"),
    [((), "cpu", "cpu", "cpu"), (("mps",), "mps", "cpu", "cpu"), (("cuda", "mps"), "cuda", "cuda", "cuda")],
)
def test_auto_takes_what_is_there_and_works(machine, gpus, flat, volumes, training):
    machine(*gpus)
    assert choose_device("auto").type == flat
    assert choose_device("auto", mps=False).type == volumes
    assert training_device("auto") == training


def test_what_is_named_is_taken_or_refused(machine):
    machine("mps")
    assert training_device("mps") == "mps"
    assert training_device("cpu") == "cpu"
    with pytest.raises(InputError, match="cuda was asked for, but PyTorch finds no GPU here; use cpu or auto"):
        choose_device("cuda")
    machine("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="mps was asked for"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "xla", "", "meta", None])
def test_what_is_no_device_of_ours_is_unknown(name):
    with pytest.raises(InputError, match=f"the device {name!r} is unknown; expected cpu, cuda, mps or auto"):
        choose_device(name)


def test_every_command_takes_the_same_devices_by_default_auto():
    from nnsam.cli.main import build_parser

    for words in (
        ["segment", "MODEL", "-i", "a", "-o", "b"],
        ["box-train", "DATA", "-o", "b"],
        ["demo"],
        ["fewshot", "run", "EXP", "--methods", "unet"],
    ):
        parser = build_parser(words[0])
        assert parser.parse_args(words).device == "auto"
        for device in DEVICES:
            assert parser.parse_args([*words, "--device", device]).device == device
