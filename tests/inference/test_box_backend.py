import numpy as np
import pytest
import torch
from helpers import bundles
from helpers.fakes import probabilities_of

from nnsam import inference
from nnsam.errors import InputError
from nnsam.inference import TorchBackend
from nnsam.inference.box.network import BoxNetwork, object_probability
from nnsam.inference.bundle import Bundle
from nnsam.inference.openvino_backend import OpenVINOBackend
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.runtime import BoxPredictor

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 100, 3)).astype(np.uint8)
VOLUME = np.random.default_rng(1).normal(size=(7, 50, 60))
CASES = [
    (PICTURE, [[5, 5, 60, 50], [10, 20, 80, 80], [1, 1, 9, 9], [5, 5, 60, 50]]),
    (VOLUME, [[3, 3, 1, 40, 30, 5], [10, 10, 2, 50, 45, 6]]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def plain(folder):
    return folder / "plain", bundles.write_box(folder / "plain")


@pytest.fixture(scope="module")
def hybrid(folder):
    return folder / "hybrid", bundles.write_box(
        folder / "hybrid", sam=True, channels=3, prompt="ellipse", folds=("0", "1")
    )


def test_the_spec_comes_from_the_bundle(tmp_path):
    bundles.write_box(tmp_path / "b", channels=3, spacing=[0.7, 0.8], per_slice_normalization=False)
    manifest = Bundle.open(tmp_path / "b").manifest
    expected = BoxModelSpec((32, 48), 3, "binary", (0.7, 0.8), False, "nnSAMBoxTrainer")
    assert BoxModelSpec.from_manifest(manifest) == expected
    for broken in ({**manifest, "box": None}, {**manifest, "tiling": {"patch_size": [1, 2, 3]}}, {}):
        with pytest.raises(InputError, match="incomplete"):
            BoxModelSpec.from_manifest(broken)
    with pytest.raises(InputError, match="2 image channels"):
        BoxModelSpec.from_manifest({**manifest, "input": {"channels": 2}})


@pytest.mark.parametrize("name", ["plain", "hybrid"])
def test_patches_give_the_same_as_pytorch(name, request):
    folder, networks = request.getfixturevalue(name)
    backend = OpenVINOBackend(Bundle.open(folder), "f32", threads=1)
    reference = TorchBackend(networks, backend.manifest)
    channels = {"plain": 2, "hybrid": 5}[name]
    patches = np.random.default_rng(0).normal(size=(5, channels, 32, 48)).astype(np.float32)
    found = probabilities_of(backend, patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, probabilities_of(reference, patches), atol=1e-4)
    # In batches of any size, asynchronously.
    network = BoxNetwork(backend, 2)
    np.testing.assert_allclose(np.stack(list(network(iter(patches)))), found, atol=1e-5)
    assert network.passes == 5


def test_there_is_one_class_of_predictors():
    assert inference.BoxPredictor is BoxPredictor


@pytest.mark.parametrize("mode", ["zoom", "faithful"])
@pytest.mark.parametrize("name", ["plain", "hybrid"])
@pytest.mark.parametrize("case", CASES, ids=["picture", "volume"])
def test_predictions_are_those_of_pytorch(name, case, mode, request):
    folder, networks = request.getfixturevalue(name)
    predictor = BoxPredictor.open(folder, "f32", threads=1, batch_size=3)
    reference = BoxPredictor(TorchBackend(networks, predictor.backend.manifest), batch_size=3)
    image, boxes = case
    found, expected = (each.set_image(image).predict(boxes, mode) for each in (predictor, reference))
    assert found.passes == expected.passes > 0
    for ours, theirs in zip(found.probabilities, expected.probabilities, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4
        assert ((ours > 0.5) == (theirs > 0.5))[np.abs(theirs - 0.5) > 1e-4].all()
    # Apart from pixels on the edge of the threshold, of which these have none.
    np.testing.assert_array_equal(found.label_map(), expected.label_map())
    assert found.label_map().any()


def test_boxes_and_folds_share_embeddings(hybrid):
    predictor = BoxPredictor.open(hybrid[0], "f32", threads=1)
    predictor.set_image(PICTURE)
    first = predictor.predict([[5, 5, 60, 50]], "faithful")
    computed = predictor.backend.embeddings_computed
    assert computed <= first.passes
    second = predictor.predict([[6, 6, 61, 51], [5, 5, 60, 50]], "faithful")
    assert predictor.backend.embeddings_computed - computed < second.passes


def test_probabilities_are_stable():
    logits = np.array([[0, 0], [1e4, -1e4], [-1e4, 1e4], [2, 5]], np.float32).reshape(4, 2, 1, 1)
    before = logits.copy()
    with np.errstate(all="raise"):
        found = object_probability(logits).ravel()
    np.testing.assert_allclose(found, [0.5, 0, 1, 1 / (1 + np.exp(-3))], atol=1e-7)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_allclose(found, torch.from_numpy(logits).softmax(1)[:, 1].ravel(), atol=1e-7)


def test_folds_can_be_chosen(hybrid):
    patches = np.random.default_rng(0).normal(size=(2, 5, 32, 48)).astype(np.float32)
    backend = OpenVINOBackend(Bundle.open(hybrid[0]), "f32", folds=[1])
    expected = probabilities_of(TorchBackend(hybrid[1][1], backend.manifest), patches)
    np.testing.assert_allclose(probabilities_of(backend, patches), expected, atol=1e-4)


def test_unsuitable_bundles_are_told(tmp_path, plain):
    bundles.write_automatic(tmp_path / "automatic")
    with pytest.raises(InputError, match=r"an automatic model \(nnSAMTrainer\); use it with `nnsam predict`"):
        BoxPredictor.open(tmp_path / "automatic")
    with pytest.raises(InputError, match=r"has no bundle\.json"):
        BoxPredictor.open(tmp_path)
    with pytest.raises(InputError, match="no int8 network; here it is computed in f32"):
        BoxPredictor.open(plain[0], "int8")
    with pytest.raises(InputError, match="batch size is 0"):
        BoxPredictor.open(plain[0], batch_size=0)
