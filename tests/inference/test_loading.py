"""`nnsam.load`: whatever a model is kept as."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers import bundles
from helpers.fakes import write_model
from helpers.model_folders import write_model_folder

import nnsam
from nnsam.errors import InputError, NnsamWarning
from nnsam.inference import BoxPredictor, OpenVINOBackend, Predictor, TorchBackend
from nnsam.nnunet.description import describe
from nnsam.nnunet.model_folder import load_trained_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    bundles.write_automatic(folder / "automatic_bundle")
    bundles.write_box(folder / "box_bundle")
    write_model_folder(folder / "automatic_folder", folds=("0", "1"))
    write_model(folder / "box_folder", folds=("0", "1"))
    return folder


@pytest.mark.parametrize(
    ("name", "predictor", "backend", "folds"),
    [
        ("automatic_bundle", Predictor, OpenVINOBackend, ("0",)),
        ("box_bundle", BoxPredictor, OpenVINOBackend, ("0",)),
        ("automatic_folder", Predictor, TorchBackend, ("0", "1")),
        ("box_folder", BoxPredictor, TorchBackend, ("0",)),
    ],
)
def test_kinds_are_told_apart(folder, name, predictor, backend, folds):
    found = nnsam.load(folder / name, device="cpu", precision="f32")
    assert type(found) is predictor
    assert type(found.backend) is backend
    assert (found.folds, found.precision) == (folds, "f32")
    picture = np.random.default_rng(0).integers(0, 255, (70, 80)).astype(np.uint8)
    if predictor is BoxPredictor:
        boxes = [[5, 6, 40, 50]]
        prediction = found.set_image(picture).predict(boxes)
        assert prediction.label_map().shape == picture.shape
        assert prediction.xyxy.tolist() == boxes
        assert prediction.boxes.tolist() == [[6, 5, 51, 41]]
    else:
        assert found.predict(picture).segmentation.shape == picture.shape


def test_defaults_choose_device_and_precision(folder):
    assert nnsam.load(str(folder / "box_folder")).precision in ("f32", "bf16")
    assert nnsam.load(folder / "box_bundle", threads=1).precision == "f32"  # as the bundle says


def test_options_reach_the_model(folder):
    assert nnsam.load(folder / "automatic_folder", "cpu", "f32", folds=["1"]).folds == ("1",)
    assert nnsam.load(folder / "box_folder", "cpu", "f32", folds=1, batch_size=3).batch_size == 3
    assert nnsam.load(folder / "box_folder", "cpu", folds=np.int64(1)).folds == ("1",)
    assert nnsam.load(folder / "box_bundle", folds=np.arange(1)).folds == ("0",)
    with pytest.raises(InputError, match=r"no fold with a checkpoint_best\.pth"):
        nnsam.load(folder / "box_folder", checkpoint="checkpoint_best.pth")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nothing", {}, "there is no folder .*nothing; expected a bundle"),
        ("", {}, r"holds neither bundle\.json nor plans\.json.*__2d$"),
        ("automatic_folder/fold_0", {}, r"it is a fold: give its parent folder, .*automatic_folder$"),
        ("automatic_bundle/bundle.json", {}, "is a file; expected a bundle"),
        ("box_bundle", {"device": "cuda"}, "runs on the CPU; leave the device cuda out"),
        ("box_bundle", {"checkpoint": "a.pth"}, "holds no checkpoints to choose from"),
        ("box_bundle", {"kind": "automatic"}, "holds a box model"),
        ("box_folder", {"kind": "automatic"}, "is a box model"),
        ("automatic_folder", {"kind": "box"}, "box prompts need one of nnSAMBoxTrainer"),
        ("automatic_folder", {"precision": "int8"}, "has no int8 network; export it first"),
        ("automatic_folder", {"device": "toaster"}, "device 'toaster' is unknown"),
        ("automatic_folder", {"batch_size": 0}, "batch size is 0"),
        ("box_folder", {"batch_size": 0}, "batch size is 0"),
        ("box_folder", {"kind": "boxes"}, "kind 'boxes' of model is unknown"),
        ("box_bundle", {"kind": "boxes"}, "kind 'boxes' of model is unknown"),
        ("automatic_folder", {"threads": -1}, "number of threads is -1"),
        ("automatic_bundle", {"threads": -1}, "number of threads is -1"),
        ("box_folder", {"threads": "2"}, "number of threads is '2'"),
        ("box_bundle", {"threads": None}, "number of threads is None"),
        ("automatic_folder", {"folds": 1.5}, r"fold 1\.5; it has 0, 1"),
        ("automatic_bundle", {"folds": np.int64(3)}, "no fold 3; it has 0"),
    ],
)
def test_anything_else_is_one_sentence(folder, name, options, words):
    with pytest.raises(InputError, match=words) as raised:
        nnsam.load(folder / name, **options)
    assert "\n" not in str(raised.value)


def test_a_model_folder_is_described_as_its_bundle_will_be(folder):
    backend = nnsam.load(folder / "automatic_folder", "cpu").backend
    assert backend.manifest == describe(load_trained_model(folder / "automatic_folder"))


def test_names_of_before_are_understood(folder):
    with pytest.warns(DeprecationWarning, match="folds"):
        predictor = BoxPredictor.from_folder(folder / "box_folder", fold=1, precision="float32")
    assert (predictor.folds, predictor.precision) == (("1",), "f32")
    with pytest.warns(DeprecationWarning, match="folds"), pytest.raises(InputError, match="leave fold out"):
        BoxPredictor.from_folder(folder / "box_folder", 0, fold=1)
    assert BoxPredictor.from_folder(folder / "box_folder", 1, "checkpoint_final.pth", "cpu").folds == ("1",)
    assert BoxPredictor.open(folder / "box_bundle", "float32", 1).precision == "f32"
    assert Predictor.open(folder / "automatic_bundle", "f32", 1, ["0"], False).folds == ("0",)


def test_import_nnsam_imports_nothing():
    code = (
        "import sys; before = set(sys.modules); import nnsam\n"
        "assert set(sys.modules) - before <= {'nnsam'}, set(sys.modules) - before\n"
        "assert set(nnsam.__all__) <= set(dir(nnsam))\n"
        "assert all(callable(getattr(nnsam, name)) for name in nnsam.__all__ if name != 'export')\n"
        "assert not {'torch', 'nnunetv2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=120, env=_path())


def _path():
    """Without site-packages' .pth files, of which nnsam's own imports it."""
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.parametrize("write", [bundles.write_automatic, bundles.write_box])
def test_random_weights_of_a_bundle_are_told_unless_they_are_meant(tmp_path, write):
    def load(name, kind, trainer):
        write(
            tmp_path / name, sections={"model": {"sam_weights": {"kind": kind, "sha256": "0" * 64}, "trainer": trainer}}
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", NnsamWarning)
            nnsam.load(tmp_path / name)
        return [str(warning.message) for warning in told if warning.category is NnsamWarning]

    folder = tmp_path / "random"
    assert load("random", "random", "nnSAMTrainer") == [
        f"the SAM branch of the model in {folder} has RANDOM weights, not SAM's"
    ]
    assert load("official", "official", "nnSAMTrainer") == []
    assert load("control", "random", "nnSAMRandomEncoderTrainer_5epochs") == []


@pytest.mark.parametrize("name", ["automatic_bundle", "box_bundle"])
def test_models_without_sam_have_nothing_to_tell(folder, name, recwarn):
    nnsam.load(folder / name)
    assert [warning for warning in recwarn if warning.category is NnsamWarning] == []
