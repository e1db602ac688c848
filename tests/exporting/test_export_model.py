import copy
import errno
import json
import sys

import numpy as np
import openvino
import pytest
import torch
from helpers.fakes import box_plans
from helpers.model_folders import REGIONS, edit, write_model_folder
from helpers.plans import RESENC, make_plans

from nnsam.errors import InputError, SetupError
from nnsam.exporting.comparison import Workbench
from nnsam.exporting.conversion import sam_input
from nnsam.exporting.export_model import export_model as complete_export
from nnsam.inference.bundle import Bundle
from nnsam.nnunet.model_folder import load_trained_model

QUICK = Workbench(seconds=0)


def export_model(folder, output, *, calibration=4, workbench=QUICK, **options):
    """Exports with few patches and hardly any timing."""
    return complete_export(folder, output, calibration=calibration, workbench=workbench, **options)


class Wrong(Workbench):
    """Adds an error to every logit."""

    error: float

    def open(self, files, precision):
        right = super().open(files, precision)
        return lambda patch, picture: right(patch, picture) + np.float32(self.error)


def off_by(error):
    return type("OffBy", (Wrong,), {"error": error})(seconds=0)


def at_the_end(error):
    """Raises an error where the networks are written and the description is not."""

    class Failing(Workbench):
        def measure(self, *arguments):
            super().measure(*arguments)
            raise error

    return Failing(seconds=0)


class Compiled:
    """The networks of one fold of a bundle, in float32."""

    def __init__(self, bundle, fold):
        core = openvino.Core()
        networks = bundle.manifest["networks"]
        names = {key: networks["folds"][fold][key] for key in ("unet", "fused")}
        names["encoder"] = (networks["image_encoder"] or {}).get("file")
        self.networks = {
            key: core.compile_model(str(bundle.path(name)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for key, name in names.items()
            if name
        }
        self.shape = [int(str(side)) for side in list(self.networks["unet"].input(0).partial_shape)[1:]]

    def compare(self, network, batch):
        """Returns the trained network's logits of random patches, and those of each way to compute them."""
        patch = torch.randn(batch, *self.shape)
        with torch.no_grad():
            expected = network(patch).numpy()
            if "encoder" not in self.networks:
                return expected, {"alone": self.networks["unet"]([patch.numpy()])[0]}
            picture = network.sam.prepare.picture(sam_input(network, patch)).numpy()
        embedding = self.networks["encoder"]([picture])[0]
        found = {"two": self.networks["unet"]([patch.numpy(), embedding])[0]}
        if "fused" in self.networks:
            found["one"] = self.networks["fused"]([patch.numpy(), picture])[0]
        return expected, found


SLOW = ("resenc, two folds", "nnSAM", "nnSAM, colour, shrinking embedding", "legacy", "box, hybrid")
MODELS = {
    "plain": {},
    "resenc, two folds": {"plans": make_plans(RESENC), "folds": ("0", "1")},
    "3d": {"configuration": "3d_fullres", "plans": None},
    "regions": {"labels": REGIONS},
    "nnSAM": {"trainer": "nnSAMTrainer_sam64"},
    "nnSAM, colour, shrinking embedding": {"trainer": "nnSAMNoLevelSetTrainer_sam96", "channels": 3},
    "level sets only": {"trainer": "nnSAMLevelSetOnlyTrainer"},
    "legacy": {"trainer": "nnSAMLegacyTrainer_sam64"},
    "box": {"trainer": "nnSAMBoxTrainer", "plans": box_plans(prompt="ellipse"), "channels": 3},
    "box, hybrid": {"trainer": "nnSAMBoxHybridTrainer_sam64", "plans": box_plans((64, 64))},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS])
def test_every_kind_of_model_computes_the_same_in_any_batch(tmp_path, name):
    options = copy.deepcopy(MODELS[name])
    if name == "3d":
        options["plans"] = make_plans(stages=3)
        options["plans"]["configurations"]["3d_fullres"]["patch_size"] = [8, 16, 16]
    folder = write_model_folder(tmp_path / "model", **options)
    bundle = export_model(folder, tmp_path / "bundle")
    trained = dict(load_trained_model(folder, folds=options.get("folds", ("0",))).networks())
    assert bundle.manifest["model"]["folds"] == list(trained)
    for index, network in enumerate(trained.values()):
        compiled = Compiled(bundle, index)
        for batch in (1, 3):
            expected, found = compiled.compare(network, batch)
            for way, logits in found.items():
                np.testing.assert_allclose(logits, expected, atol=2e-4, err_msg=f"{name} {way} {batch}")
    head = [key for key in network.state_dict() if key.startswith("level_set_head")]
    assert bool(head) == ("NoLevelSet" not in name and name in ("nnSAM", "level sets only"))
    parity, precision = bundle.manifest["parity"], bundle.manifest["precision"]
    assert parity["max_difference"] <= 1e-3
    assert parity["images"] == 4
    assert precision["candidates"]["f32"]["dice"] == 1.0
    assert precision["auto"] in precision["candidates"]
    assert {path.name for path in bundle.folder.iterdir()} == {"bundle.json", *bundle.manifest["files"]}
    for path in bundle.folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), f"{path.name} names a folder of this machine"


def test_one_fold_of_several_and_fold_all(tmp_path):
    folder = write_model_folder(tmp_path / "model", folds=("0", "1", "all"))
    sentences = []
    assert export_model(folder, tmp_path / "a", tell=sentences.append).manifest["model"]["folds"] == ["0", "1"]
    assert sentences[0] == "folds 0, 1 are used, as by nnUNetv2_predict; fold_all is not"
    assert export_model(folder, tmp_path / "b", folds=["all"]).manifest["model"]["folds"] == ["all"]
    assert export_model(folder, tmp_path / "c", folds=[1]).manifest["model"]["folds"] == ["1"]


def test_wrong_networks_are_not_exported(tmp_path):
    folder = write_model_folder(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"fold 0: OpenVINO's logits .* differ from PyTorch's by up to 0\.002.*nothing"
    ):
        export_model(folder, tmp_path / "bundle", workbench=off_by(0.002))
    with pytest.raises(InputError, match="by up to inf"):
        export_model(folder, tmp_path / "bundle", workbench=off_by(np.nan))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    bundle = export_model(folder, tmp_path / "bundle", workbench=off_by(0.0005))
    assert bundle.manifest["parity"]["max_difference"] > 4e-4


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("iostream error")])
def test_a_full_disk_leaves_nothing(tmp_path, error):
    folder = write_model_folder(tmp_path / "model")
    with pytest.raises(InputError, match="the disk"):
        export_model(folder, tmp_path / "bundle", workbench=at_the_end(error))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_export_leaves_nothing_and_keeps_the_old_bundle(tmp_path):
    folder = write_model_folder(tmp_path / "model")
    old = export_model(folder, tmp_path / "bundle")
    with pytest.raises(InputError, match="--overwrite"):
        export_model(folder, tmp_path / "bundle")
    for output in ("bundle", "new"):
        with pytest.raises(KeyboardInterrupt):
            export_model(folder, tmp_path / output, overwrite=True, workbench=at_the_end(KeyboardInterrupt()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "model"]
    assert Bundle.open(tmp_path / "bundle").digest == old.digest
    new = export_model(folder, tmp_path / "bundle", overwrite=True, precision="f32")
    assert Bundle.open(tmp_path / "bundle").digest == new.digest != old.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "model"]


def test_what_is_no_bundle_is_never_replaced(tmp_path):
    folder = write_model_folder(tmp_path / "model")
    with pytest.raises(InputError, match="is no bundle"):
        export_model(folder, folder, overwrite=True)
    assert (folder / "plans.json").is_file()


def test_folds_have_to_belong_together(tmp_path):
    folder = write_model_folder(tmp_path / "model", folds=("0", "1"))
    edit(folder / "fold_1" / "checkpoint_final.pth", trainer_name="nnUNetTrainerNoMirroring")
    with pytest.raises(InputError, match="the folds of one model have to agree"):
        export_model(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_folds_with_other_encoders_are_refused(tmp_path):
    folder = write_model_folder(tmp_path / "model", trainer="nnSAMNoLevelSetTrainer_sam64", folds=("0", "1"))
    assert export_model(folder, tmp_path / "same").manifest["networks"]["folds"][1]["fused"] is None
    path = folder / "fold_1" / "checkpoint_final.pth"
    weights = torch.load(path, weights_only=True)["network_weights"]
    key = next(key for key in weights if key.startswith("sam.encoder.") and weights[key].ndim == 4)
    edit(path, network_weights={**weights, key: weights[key] + 1e-3})
    with pytest.raises(InputError, match="image encoder of fold 1 differs"):
        export_model(folder, tmp_path / "bundle")


@pytest.mark.slow
def test_a_fused_network_is_kept_where_it_is_faster(tmp_path):
    folder = write_model_folder(tmp_path / "model", trainer="nnSAMTrainer_sam64")
    for seconds, kept in (({"two": 1.0, "one": 0.94}, True), ({"two": 1.0, "one": 0.96}, False)):
        measured = type("Measured", (Workbench,), {"best_seconds": lambda bench, calls, seconds=seconds: seconds})
        bundle = export_model(folder, tmp_path / str(kept), workbench=measured(seconds=0))
        assert (bundle.manifest["networks"]["folds"][0]["fused"] == "fused_fold0.xml") == kept
        assert ("fused_fold0.bin" in bundle.manifest["files"]) == kept


def test_impossible_wishes_are_told_before_any_work(tmp_path):
    with pytest.raises(InputError, match="at least 4"):
        export_model(tmp_path / "none", tmp_path / "bundle", calibration=3)
    with pytest.raises(SetupError, match="no bfloat16"):
        export_model(tmp_path / "none", tmp_path / "bundle", precision="bf16", workbench=Workbench(("f32",)))


def test_without_bfloat16_there_is_only_float32(tmp_path):
    bundle = export_model(write_model_folder(tmp_path / "model"), tmp_path / "bundle", workbench=Workbench(("f32",), 0))
    assert list(bundle.manifest["precision"]["candidates"]) == ["f32"]
    assert bundle.manifest["precision"]["auto"] == "f32"


def test_the_bundle_explains_itself(tmp_path):
    bundle = export_model(write_model_folder(tmp_path / "model"), tmp_path / "bundle")
    assert "nnsam predict" in (bundle.folder / "README.txt").read_text()
    assert json.loads((bundle.folder / "bundle.json").read_text()) == bundle.manifest


@pytest.mark.slow
def test_onnx_files_compute_the_same(tmp_path):
    pytest.importorskip("onnx")
    folder = write_model_folder(tmp_path / "model", trainer="nnSAMNoLevelSetTrainer_sam96")
    bundle = export_model(folder, tmp_path / "bundle", onnx=True)
    networks = bundle.manifest["networks"]
    assert networks["image_encoder"]["onnx"] == "image_encoder.onnx"
    assert networks["folds"][0]["onnx"] == "unet_fold0.onnx"
    assert {"image_encoder.onnx", "unet_fold0.onnx"} < set(bundle.manifest["files"])


def test_a_missing_onnx_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SetupError, match="pip install onnx"):
        export_model(tmp_path / "none", tmp_path / "bundle", onnx=True)


def test_a_baseline_on_the_embedding_alone_is_refused(tmp_path):
    folder = write_model_folder(tmp_path / "model")
    edit(folder / "fold_0" / "checkpoint_final.pth", trainer_name="nnSAMAutoSAMTrainer_sam256")
    with pytest.raises(InputError, match="a baseline for comparisons"):
        export_model(folder, tmp_path / "bundle")
