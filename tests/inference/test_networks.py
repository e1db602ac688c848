import numpy as np
import pytest
import torch
from helpers import bundles
from helpers.fakes import logits_of

from nnsam.errors import InputError
from nnsam.inference.bundle import Bundle
from nnsam.inference.openvino_backend import OpenVINOBackend
from nnsam.support.openvino import cpu_precisions

# On CPUs with bfloat16 the layers that are not quantised use it.
ROUNDED = 0.3 if "bf16" in cpu_precisions() else 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def sam(folder):
    """Two folds with SAM branch; every kind of file."""
    return Bundle(folder / "sam", {}), bundles.write_automatic(
        folder / "sam", sam=True, folds=("0", "1"), fused=True, int8=True
    )


def random_patches(count=3, channels=1, shape=(32, 48), seed=0):
    return np.random.default_rng(seed).normal(size=(count, channels, *shape)).astype(np.float32)


def expected(network, patches):
    with torch.no_grad():
        return network(torch.from_numpy(patches)).numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dimensions": 3},
        {"channels": 2, "sam": True, "outputs": 2},
        {"channels": 3, "sam": True},
        {"channels": 5, "sam": True},
        {"channels": 3, "sam": True, "legacy": True},
        {"sam": True, "legacy": True, "fused": True},
        {"sam": True, "fused": True, "patch_size": (96, 112)},
    ],
)
def test_logits_are_those_of_pytorch(tmp_path, options):
    (network,) = bundles.write_automatic(tmp_path / "b", **options)
    networks = OpenVINOBackend(Bundle.open(tmp_path / "b"), "f32", threads=1, cache=False)
    shape = options.get("patch_size", (16, 32, 48)[-options.get("dimensions", 2) :])
    patches = random_patches(3, options.get("channels", 1), shape)
    found = logits_of(networks, patches)
    assert found.shape == (3, networks.outputs, *shape)
    np.testing.assert_allclose(found, expected(network, patches), atol=1e-4)
    assert networks.folds == ["0"]
    assert networks.note == ""


def test_folds_share_the_embedding(sam):
    bundle, torch_networks = Bundle.open(sam[0].folder), sam[1]
    networks = OpenVINOBackend(bundle, "f32")
    patches = random_patches()
    for fold, network in enumerate(torch_networks):
        np.testing.assert_allclose(logits_of(networks, patches, fold), expected(network, patches), atol=1e-4)
    assert networks.embeddings_computed == 3
    found = list(networks.stream(1, [patches[:1], patches[1:], patches[:2]]))
    assert [len(part) for part in found] == [1, 2, 2]
    np.testing.assert_allclose(np.concatenate(found[:2]), expected(torch_networks[1], patches), atol=1e-4)
    assert networks.embeddings_computed == 3


def test_a_single_fold_uses_the_fused_network(sam):
    networks = OpenVINOBackend(Bundle.open(sam[0].folder), "f32", folds=[1])
    np.testing.assert_allclose(logits_of(networks, random_patches()), expected(sam[1][1], random_patches()), atol=1e-4)
    assert networks.folds == ["1"]
    assert networks.embeddings_computed == 0


@pytest.mark.skipif("int8" not in cpu_precisions(), reason="this CPU has no int8")
def test_int8_uses_the_quantised_networks(sam):
    networks = OpenVINOBackend(Bundle.open(sam[0].folder), "int8", folds=["0"])
    assert networks.precision == "int8"
    found, target = logits_of(networks, random_patches()), expected(sam[1][0], random_patches())
    np.testing.assert_allclose(found, target * bundles.INT8_FACTOR, atol=ROUNDED)
    assert np.polyfit(target.ravel(), found.ravel(), 1)[0] == pytest.approx(bundles.INT8_FACTOR, abs=0.004)
    assert networks.embeddings_computed == 3


@pytest.mark.skipif("bf16" not in cpu_precisions(), reason="this CPU has no bfloat16")
def test_precisions_differ_and_share_no_cache(sam):
    bundle, patches = Bundle.open(sam[0].folder), random_patches()
    results = {}
    for _ in range(2):  # compiled, then from the cache
        for name in ("f32", "bf16"):
            found = logits_of(OpenVINOBackend(bundle, name), patches)
            np.testing.assert_array_equal(results.setdefault(name, found), found)
    assert 1e-4 < np.abs(results["f32"] - results["bf16"]).max() < 0.3


def test_the_sam_branch_does_not_see_the_prompt(tmp_path):
    (network,) = bundles.write_box(tmp_path / "b", sam=True, channels=3, prompt="ellipse")
    networks = OpenVINOBackend(Bundle.open(tmp_path / "b"), "f32", cache=False)
    patches = random_patches(2, 5)
    patches[1, :3] = patches[0, :3]
    np.testing.assert_allclose(logits_of(networks, patches), expected(network, patches), atol=1e-4)
    assert networks.embeddings_computed == 1


def test_bad_input_is_told(sam):
    bundle = Bundle.open(sam[0].folder)
    with pytest.raises(InputError, match=r"no fold 7; it has 0, 1"):
        OpenVINOBackend(bundle, folds=["0", "7"])
    with pytest.raises(InputError, match="none given"):
        OpenVINOBackend(bundle, folds=[])
    patches = random_patches()
    patches[1, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        logits_of(OpenVINOBackend(bundle, "f32", folds=["0"]), patches)
