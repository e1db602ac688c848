import copy
import inspect
import json
import shutil

import pytest
import torch
from helpers.model_folders import REGIONS, edit, write_model_folder
from helpers.plans import make_plans

from nnsam.errors import InputError
from nnsam.exporting.manifest import describe_network
from nnsam.inference.automatic.preprocessing import SCHEMES
from nnsam.nnunet.description import NORMALIZATIONS, RESAMPLING_DEFAULTS, describe, resampling_arguments
from nnsam.nnunet.model_folder import load_trained_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model_folder(tmp_path_factory.mktemp("plain") / "model", folds=("0", "2", "all"))


def test_folds_are_those_of_prediction(model, tmp_path):
    assert load_trained_model(model).folds == ("0", "2")
    assert load_trained_model(model, ["all"]).folds == ("all",)
    with pytest.raises(InputError, match="fold 1; it has 0, 2, all"):
        load_trained_model(model, [0, 1])
    only_all = write_model_folder(tmp_path / "model", folds=("all",))
    assert load_trained_model(only_all).folds == ("all",)


def test_deep_supervision_is_off_and_weights_are_the_folds(model):
    networks = dict(load_trained_model(model).networks())
    patch = torch.randn(1, 1, 64, 64)
    logits = [network(patch) for network in networks.values()]
    assert [tuple(value.shape) for value in logits] == [(1, 3, 64, 64)] * 2
    assert not torch.equal(*logits)
    assert not any(parameter.requires_grad for parameter in networks["0"].parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "cascade"),
        ({"preprocessor_name": "MyPreprocessor"}, "names 'MyPreprocessor' as preprocessor_name"),
        ({"normalization_schemes": ["MyNormalization"]}, "names 'MyNormalization' as normalization_schemes"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resample data by resample_torch_fornnunet"),
        ({"resampling_fn_probabilities_kwargs": {"mode": "linear"}}, "probabilities with mode"),
        ({"use_mask_for_norm": None}, None),
    ],
)
def test_what_a_bundle_cannot_express_is_refused(model, tmp_path, settings, words):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"].update(settings)
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "plans.json").write_text(json.dumps(plans))
    if words is None:
        with pytest.raises(InputError, match="incomplete or damaged"):
            describe(load_trained_model(folder))
    else:
        with pytest.raises(InputError, match=words):
            describe(load_trained_model(folder))


@pytest.mark.parametrize("key", ["label_manager", "image_reader_writer"])
def test_other_managers_and_readers_are_refused(model, tmp_path, key):
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / "plans.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "Mine"}))
    with pytest.raises(InputError, match=r"Mine, which nnsam can neither|names 'Mine' as label_manager"):
        describe(load_trained_model(tmp_path / "model"))


def test_damaged_folders_are_told(model, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_trained_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no plans\.json"):
        load_trained_model(tmp_path)
    folder = write_model_folder(tmp_path / "model")
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    good = checkpoint.read_bytes()
    edit(checkpoint, trainer_name="MyTrainer")
    with pytest.raises(InputError, match="trained by MyTrainer, which neither nnsam nor nnU-Net has"):
        list(load_trained_model(folder).networks())
    checkpoint.write_bytes(good)
    edit(checkpoint, trainer_name="nnSAMLaterTrainer")
    with pytest.raises(InputError, match=r"trained by nnSAMLaterTrainer, which neither .* update nnsam"):
        list(load_trained_model(folder).networks())
    checkpoint.write_bytes(good)
    with pytest.raises(InputError, match=r"fold_0 has no plans\.json; .*it is a fold: give its parent folder, .*model"):
        load_trained_model(folder / "fold_0")
    edit(checkpoint, network_weights={})
    with pytest.raises(InputError, match=r"does not fit plans\.json"):
        list(load_trained_model(folder).networks())
    checkpoint.write_bytes(good[:1000])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_trained_model(folder)
    (folder / "plans.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        load_trained_model(folder)


def test_the_manifest_describes_the_plans(tmp_path):
    plans = make_plans(stages=3)
    plans.update(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0], image_reader_writer="SimpleITKIO")
    plans["configurations"]["3d_fullres"].update(patch_size=[8, 16, 16], spacing=[2.5, 1.0, 0.5])
    before = copy.deepcopy(plans)
    folder = write_model_folder(tmp_path / "m", configuration="3d_fullres", plans=plans, labels=REGIONS, axes=(0, 1, 2))
    model = load_trained_model(folder)
    network = dict(model.networks())["0"]
    manifest = describe(model)
    assert manifest["kind"] == "automatic"
    assert describe_network(network)["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert manifest["model"]["configuration"] == "3d_fullres"
    assert manifest["input"] == {
        "channel_names": {"0": "channel 0"},
        "channels": 1,
        "file_ending": ".png",
        "reader": "SimpleITKIO",
        "dimensions": 3,
    }
    preprocessing = manifest["preprocessing"]
    assert (preprocessing["transpose_forward"], preprocessing["spacing"]) == ([2, 0, 1], [2.5, 1.0, 0.5])
    statistics = before["foreground_intensity_properties_per_channel"]["0"]
    assert preprocessing["normalization"] == [
        {"scheme": "ZScoreNormalization", "use_mask": False, "statistics": statistics}
    ]
    assert preprocessing["resampling"]["data"] == {
        "function": "resample_data_or_seg_to_shape",
        "order": 1,
        "order_z": 0,
        "force_separate_z": None,
        "separate_z_anisotropy_threshold": 3,
    }
    assert manifest["tiling"] == {
        "patch_size": [8, 16, 16],
        "step": 0.5,
        "gaussian_sigma": 0.125,
        "mirror_axes": [0, 1, 2],
    }
    assert manifest["labels"] == {
        "names": REGIONS,
        "regions_class_order": [1, 2],
        "has_regions": True,
        "outputs": 2,
        "foreground": [1, 2],
    }
    assert manifest["box"] is None


def test_defaults_of_the_resampling_are_nnunets():
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    parameters = inspect.signature(resample_data_or_seg_to_shape).parameters
    assert {name: parameters[name].default for name in RESAMPLING_DEFAULTS} == RESAMPLING_DEFAULTS
    settings = {"resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": {"is_seg": True}}
    with pytest.raises(InputError, match="is_seg"):
        resampling_arguments(settings, "data")


def test_the_normalisations_are_those_of_inference():
    assert set(NORMALIZATIONS) == set(SCHEMES)


def test_level_set_heads_do_not_count(tmp_path):
    folder = write_model_folder(tmp_path / "model", trainer="nnSAMLevelSetOnlyTrainer")
    model = load_trained_model(folder)
    network = dict(model.networks())["0"]
    head = sum(parameter.numel() for parameter in network.level_set_head.parameters())
    total = sum(parameter.numel() for parameter in network.parameters())
    assert head > 0
    assert describe_network(network)["parameters"] == total - head
