"""Plans and checkpoints that name what nnU-Net would import and call run nothing here."""

import copy
import json
import re

import pytest
import torch
from helpers.fakes import write_model
from helpers.model_folders import write_model_folder
from helpers.plans import make_plans
from hypothesis import given
from hypothesis import strategies as st

from nnsam.cli.main import main
from nnsam.errors import InputError
from nnsam.nnunet.allowed import NETWORKS, check_architecture, check_plans, check_trainer_name
from nnsam.nnunet.checkpoint import read_nnunet_checkpoint

HUBCONF = """
from pathlib import Path

def payload(*args, **kwargs):
    Path(__file__).with_name("ran").write_text("it ran")
    raise SystemExit("it ran")

payload.dependencies = []
"""


def poison(plans, folder):
    """Plans whose network is torch.hub.load of a hubconf.py in the folder: what it names would run."""
    (folder / "hubconf.py").write_text(HUBCONF)
    plans = copy.deepcopy(plans)
    for settings in plans["configurations"].values():
        if "architecture" in settings:
            settings["architecture"] = {
                "network_class_name": "torch.hub.load",
                "arch_kwargs": {"repo_or_dir": str(folder), "model": "payload", "source": "local", "conv_op": "Conv2d"},
                "_kw_requires_import": [],
            }
    return plans


@pytest.fixture
def box_model(tmp_path):
    write_model(tmp_path / "model")
    return tmp_path / "model"


def poison_folder(folder):
    path = folder / "plans.json"
    path.write_text(json.dumps(poison(json.loads(path.read_text()), folder)))


@pytest.mark.parametrize("command", ["segment", "export box", "export stock", "predict in Python"])
def test_a_model_folder_that_names_a_function_runs_nothing(tmp_path, capsys, command):
    folder = tmp_path / "model"
    if command in ("segment", "export box"):
        write_model(folder)
    else:
        write_model_folder(folder)
    poison_folder(folder)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    if command == "predict in Python":
        import nnsam

        with pytest.raises(InputError, match=r"names 'torch\.hub\.load' as a network"):
            nnsam.load(folder)
    else:
        words = {
            "segment": ["segment", folder, "-i", picture, "--box", "0,0,3,3", "-o", tmp_path / "o.png"],
            "export box": ["export", folder, "-o", tmp_path / "bundle"],
            "export stock": ["export", folder, "-o", tmp_path / "bundle"],
        }[command]
        assert main([str(word) for word in words]) == 1
        error = capsys.readouterr().err
        assert "names 'torch.hub.load' as a network, which nnsam does not import" in error
        assert error.count("\n") == 1
    assert not (folder / "ran").exists()


def test_a_checkpoint_that_names_a_function_runs_nothing(tmp_path, capsys):
    folder = write_model_folder(tmp_path / "model")
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = read_nnunet_checkpoint(path)
    content["init_args"]["plans"] = poison(content["init_args"].get("plans") or make_plans(), folder)
    torch.save(content, path)
    assert main(["warm-start", str(path), "-o", str(tmp_path / "start.pth")]) == 1
    assert "names 'torch.hub.load' as a network" in capsys.readouterr().err
    assert not (folder / "ran").exists()
    assert not (tmp_path / "start.pth").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.update(network_class_name="hubconf.payload"), "names 'hubconf.payload' as a network"),
        (lambda a: a.update(network_class_name="os.system"), "names 'os.system' as a network"),
        (lambda a: a.update(network_class_name=["x"]), "as a network"),
        (lambda a: a.update(network_class_name=None), "as a network"),
        (lambda a: a["arch_kwargs"].update(conv_op="builtins.exec"), "names 'builtins.exec' as conv_op"),
        (lambda a: a["arch_kwargs"].update(norm_op="torch.hub.load"), "as norm_op"),
        (lambda a: a["arch_kwargs"].update(nonlin="torch.nn.modules.module.Module"), "as nonlin"),
        (lambda a: a["arch_kwargs"].update(nonlin="torch.nn.ReLU.__init__"), "as nonlin"),
        (lambda a: a["arch_kwargs"].update(nonlin="torch.nn.ReLU\n"), "as nonlin"),
        (lambda a: a["arch_kwargs"].update(conv_op={"a": 1}), "as conv_op"),
        (lambda a: a.update(_kw_requires_import=["features_per_stage"]), "as an argument to be imported"),
        (lambda a: a.update(_kw_requires_import="conv_op"), "incompletely"),
        (lambda a: a.update(arch_kwargs=None), "incompletely"),
        (lambda a: a.update(network_class_name="x" * 10**6), "as a network"),
    ],
)
def test_other_classes_are_refused_in_a_short_sentence(change, words):
    plans = make_plans()
    change(plans["configurations"]["2d"]["architecture"])
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        check_plans(plans, "plans.json")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalization_schemes", ["os.system"]),
        ("normalization_schemes", "ZScore"),
        ("resampling_fn_data", "exec"),
        ("preprocessor_name", "Mine"),
        ("UNet_class_name", "Generic_UNet"),
    ],
)
def test_other_names_of_a_configuration_are_refused(key, value):
    plans = make_plans()
    plans["configurations"]["2d"][key] = value
    with pytest.raises(InputError, match="which nnsam does not import; known are nnU-Net's own"):
        check_plans(plans, "plans.json")


def test_plans_of_nnunets_planners_pass():
    from dynamic_network_architectures.architectures import unet

    check_plans(make_plans(), "plans.json")
    architecture = make_plans()["configurations"]["2d"]["architecture"]
    for dimensions in (2, 3):
        for norm in (f"instancenorm.InstanceNorm{dimensions}d", f"batchnorm.BatchNorm{dimensions}d"):
            own = copy.deepcopy(architecture)
            own["arch_kwargs"] |= {
                "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                "norm_op": f"torch.nn.modules.{norm}",
                "dropout_op": None,
                "nonlin": "torch.nn.LeakyReLU",
            }
            check_architecture(own, "plans.json")
    for name in ("PlainConvUNet", "ResidualEncoderUNet"):
        assert f"{getattr(unet, name).__module__}.{name}" in NETWORKS


@given(st.text(max_size=300))
def test_only_names_of_classes_are_trainers(name):
    if name.isascii() and name.isidentifier() and len(name) <= 200:
        assert check_trainer_name(name, "x") == name
    else:
        with pytest.raises(InputError, match="no name of a class"):
            check_trainer_name(name, "x")


class Evil:
    def __reduce__(self):
        return (eval, ("1",))


def test_pytorchs_advice_to_load_it_anyway_is_not_passed_on(tmp_path):
    torch.save({"network_weights": Evil(), "init_args": {}, "trainer_name": "x"}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="which could run code and is in no checkpoint of nnU-Net") as caught:
        read_nnunet_checkpoint(tmp_path / "a.pth")
    assert "weights_only" not in str(caught.value)
    assert "eval" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_stages", 10**9),
        ("n_conv_per_stage", [10**9, 2]),
        ("n_conv_per_stage", 10**9),
        ("n_conv_per_stage_decoder", [2, 10**9]),
        ("features_per_stage", [32, -1]),
        ("features_per_stage", [32] * 1000),
        ("kernel_sizes", [[3, 3], [3, 10**6]]),
        ("strides", [[[[[[1]]]]]]),
        ("n_stages", "7"),
        ("n_stages", True),
    ],
)
def test_networks_beyond_what_planners_choose_are_refused(key, value):
    plans = make_plans()
    architecture = plans["configurations"]["2d"]["architecture"]
    check_architecture(architecture, "plans.json")
    architecture["arch_kwargs"][key] = value
    with pytest.raises(InputError, match=rf"plans\.json states .* as {key}; expected whole numbers up to"):
        check_plans(plans, "plans.json")
