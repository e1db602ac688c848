import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.fakes import box_plans, probabilities_of, write_model

from nnsam.errors import InputError
from nnsam.inference import BoxModelSpec, BoxPredictor, TorchBackend
from nnsam.networks import build_box_unet


@pytest.fixture
def model(tmp_path):
    return tmp_path / "nnSAMBoxTrainer__nnSAMBoxPlans__2d"


def patches(channels=1, count=3, prompt_channels=1):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, channels + prompt_channels, 32, 48)).astype(np.float32)


def expected(networks, batch):
    with torch.no_grad():
        return np.mean([network(torch.from_numpy(batch)).softmax(1)[:, 1].numpy() for network in networks], axis=0)


@pytest.mark.parametrize(("channels", "prompt", "prompt_channels"), [(1, "binary", 1), (3, "ellipse", 2)])
def test_a_model_folder_is_read(model, channels, prompt, prompt_channels):
    networks = write_model(model, channels=channels, plans=box_plans(prompt=prompt))
    backend = TorchBackend.from_folder(model)
    assert BoxModelSpec.from_manifest(backend.manifest) == BoxModelSpec(
        (32, 48), channels, prompt, None, True, "nnSAMBoxTrainer_1epochs"
    )
    batch = patches(channels, prompt_channels=prompt_channels)
    found = probabilities_of(backend, batch)
    assert found.dtype == np.float32
    assert found.shape == (3, 32, 48)
    np.testing.assert_allclose(found, expected(networks, batch), atol=1e-5)


def test_a_predictor_is_made_from_a_folder(model):
    write_model(model)
    predictor = BoxPredictor.from_folder(model, batch_size=2, propagation="box", device="cpu")
    prediction = predictor.set_image(np.random.default_rng(0).random((50, 60))).predict([[3, 3, 40, 30], [1, 1, 9, 9]])
    assert prediction.passes == 2
    assert ((prediction.scores >= 0) & (prediction.scores <= 1)).all()


def test_folds_are_chosen_as_stated(model):
    networks = write_model(model, folds=("1", "10", "2"))
    batch = patches()
    default = TorchBackend.from_folder(model)
    np.testing.assert_allclose(probabilities_of(default, batch), expected(networks[:1], batch), atol=1e-5)
    assert default.note == "fold 1 of 1, 2, 10 was used, since none was chosen"
    for fold in (10, "10"):
        np.testing.assert_allclose(
            probabilities_of(TorchBackend.from_folder(model, fold), batch), expected(networks[1:2], batch), atol=1e-5
        )
    several = TorchBackend.from_folder(model, [1, 2])
    np.testing.assert_allclose(probabilities_of(several, batch), expected([networks[0], networks[2]], batch), atol=1e-5)
    assert several.note == ""
    with pytest.raises(InputError, match=r"fold 7; it has 1, 2, 10"):
        TorchBackend.from_folder(model, 7)
    with pytest.raises(InputError, match="none given"):
        TorchBackend.from_folder(model, [])


def test_fold_all_comes_first(model):
    networks = write_model(model, folds=("0", "all"))
    backend = TorchBackend.from_folder(model)
    np.testing.assert_allclose(probabilities_of(backend, patches()), expected(networks[1:], patches()), atol=1e-5)
    assert backend.note == ""


def test_a_moved_folder_works(model, tmp_path):
    write_model(model)
    before = probabilities_of(TorchBackend.from_folder(model), patches())
    moved = model.rename(tmp_path / "elsewhere")
    assert np.array_equal(probabilities_of(TorchBackend.from_folder(moved), patches()), before)


def test_incomplete_folders_are_told(model, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        TorchBackend.from_folder(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no plans\.json"):
        TorchBackend.from_folder(tmp_path)
    write_model(model)
    with pytest.raises(InputError, match=r"no fold with a checkpoint_best\.pth"):
        TorchBackend.from_folder(model, checkpoint="checkpoint_best.pth")
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        TorchBackend.from_folder(model)
    (model / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json cannot be read"):
        TorchBackend.from_folder(model)
    (model / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        TorchBackend.from_folder(model)


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnSAMTrainer_5epochs"])
def test_models_of_other_trainers_are_refused(model, trainer):
    write_model(model, trainer=trainer)
    with pytest.raises(InputError, match=f"is a model of {trainer}; box prompts need"):
        TorchBackend.from_folder(model, kind="box")


def test_trainers_of_later_versions_are_refused(model):
    write_model(model, trainer="nnSAMBoxNewTrainer")
    with pytest.raises(InputError, match="update nnsam"):
        TorchBackend.from_folder(model)


def test_plans_without_boxes_are_refused(model):
    plans = box_plans()
    del plans["configurations"]["2d"]["nnsam_box"]
    write_model(model, plans=plans)
    with pytest.raises(InputError, match="not made for box prompts"):
        TorchBackend.from_folder(model)


def test_weights_of_another_architecture_are_refused(model):
    write_model(model)
    plans = box_plans()
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"][0] = 8
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=r"does not fit plans\.json"):
        TorchBackend.from_folder(model)


def test_the_spec_is_read_from_plans():
    plans, dataset = box_plans(), {"channel_names": {"0": "CT"}}
    flat = plans["configurations"]["2d"]
    flat["spacing"] = [0.7, 0.8]
    assert BoxModelSpec.from_plans(plans, dataset).spacing is None, "pictures"
    plans["original_median_shape_after_transp"] = [30, 100, 100]
    assert BoxModelSpec.from_plans(plans, dataset).spacing == (0.7, 0.8)
    assert not BoxModelSpec.from_plans(plans, dataset).per_slice_normalization
    flat["spacing"] = [1.0, 1.0]
    for ending, spacing in ((".nii.gz", (1.0, 1.0)), (".mha", (1.0, 1.0)), (".png", None), (".tif", None)):
        assert BoxModelSpec.from_plans(plans, {**dataset, "file_ending": ending}).spacing == spacing
    flat["spacing"] = [0.5, 0.5]  # of a TIFF with a file that states it
    assert BoxModelSpec.from_plans(plans, {**dataset, "file_ending": ".tif"}).spacing == (0.5, 0.5)
    assert BoxModelSpec.from_plans(plans, dataset).transpose == (0, 1, 2)
    plans["transpose_forward"] = [2, 0, 1]
    spec = BoxModelSpec.from_plans(plans, dataset)
    assert spec.transpose == (2, 0, 1)
    assert BoxModelSpec.from_manifest(spec.to_manifest()) == spec
    earlier = spec.to_manifest()  # bundles of earlier versions
    del earlier["box"]["transpose"]
    assert BoxModelSpec.from_manifest(earlier).transpose == (0, 1, 2)
    earlier["preprocessing"] = {"transpose_forward": [2, 0, 1]}
    assert BoxModelSpec.from_manifest(earlier).transpose == (2, 0, 1)
    plans["transpose_forward"] = [0, 0, 1]
    with pytest.raises(InputError, match="order of axes"):
        BoxModelSpec.from_plans(plans, dataset)
    plans["transpose_forward"] = [0, 1, 2, 3]
    with pytest.raises(InputError, match="incomplete or damaged"):
        BoxModelSpec.from_plans(plans, dataset)
    plans["transpose_forward"] = [0, 1, 2]
    with pytest.raises(InputError, match="2 image channels"):
        BoxModelSpec.from_plans(plans, {"channel_names": {"0": "a", "1": "b"}})
    del flat["patch_size"]
    with pytest.raises(InputError, match="incomplete"):
        BoxModelSpec.from_plans(plans, dataset)


def test_precisions_and_devices():
    network = build_box_unet("small", image_channels=1)
    manifest = BoxModelSpec((32, 48), 1).to_manifest()

    def probabilities(**options):
        return probabilities_of(TorchBackend(network, manifest, **options), patches())

    exact, rounded = probabilities(), probabilities(precision="bf16")
    assert 0 < np.abs(rounded - exact).max() < 0.1
    assert np.array_equal(rounded, probabilities(precision="bfloat16"))
    assert np.array_equal(exact, probabilities(precision="float32"))
    assert network.cpu_autocast is False
    assert np.abs(probabilities(precision="auto", device=torch.device("cpu")) - exact).max() < 0.1
    with pytest.raises(InputError, match="precision"):
        probabilities(precision="half")
    with pytest.raises(InputError, match="int8"):
        probabilities(precision="int8")
    with pytest.raises(InputError, match="device"):
        probabilities(device="toaster")
    if not torch.cuda.is_available():
        assert TorchBackend(network, manifest, device="auto").device.type in ("cpu", "mps")
        with pytest.raises(InputError, match="no GPU"):
            probabilities(device="cuda")


def test_stock_networks_compute_in_bfloat16_too():
    network = torch.nn.Conv2d(2, 2, 3, padding=1)
    manifest = BoxModelSpec((32, 48), 1).to_manifest()
    exact, rounded = (
        probabilities_of(TorchBackend(network, manifest, precision=p), patches()) for p in ("f32", "bf16")
    )
    assert exact.dtype == rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.02


def test_bad_values_are_refused():
    backend = TorchBackend(torch.nn.Conv2d(2, 2, 1), BoxModelSpec((32, 48), 1).to_manifest())
    batch = patches()
    batch[1, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        probabilities_of(backend, batch)


def test_prediction_without_a_torch_backend_needs_no_torch():
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from nnsam.inference import BoxModelSpec, BoxPredictor\n"
        "class Backend:\n"
        "    manifest = BoxModelSpec((32, 48), 1).to_manifest()\n"
        "    folds, outputs, precision, note = ['0'], 2, 'f32', ''\n"
        "    def stream(self, fold, batches):\n"
        "        return iter(batches)\n"
        "image = np.random.default_rng(0).random((5, 60, 70))\n"
        "for mode in ('zoom', 'faithful'):\n"
        "    BoxPredictor(Backend()).set_image(image).predict([3, 3, 0, 9, 9, 4], mode).label_map()\n"
        "assert not {'torch', 'nnunetv2'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
