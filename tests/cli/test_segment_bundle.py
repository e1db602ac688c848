"""`nnsam segment` on a bundle."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import bundles
from helpers.fakes import probabilities_of
from PIL import Image

from nnsam.cli.main import main
from nnsam.inference import BoxPredictor, TorchBackend
from nnsam.inference.folders.segment import load_predictor
from nnsam.io.reading import read_labels
from nnsam.support import openvino as precision

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8)
BOXES = [[5, 10, 30, 25], [40, 0, 59, 39]]
WORDS = [word for box in BOXES for word in ("--box", ",".join(map(str, box)))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "box"
    return folder, bundles.write_box(folder, sam=True, channels=3, folds=("0", "1"))


@pytest.fixture
def segment(model, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")

    def run(*words, folder=model[0]):
        words = [folder, "-i", tmp_path / "a.png", *WORDS, "-o", tmp_path / "o.png", *words]
        return main(["segment", *map(str, words)])

    return run


@pytest.mark.parametrize("mode", ["zoom", "faithful"])
def test_masks_are_those_of_pytorch(model, segment, tmp_path, mode, capsys):
    assert segment("--mode", mode, "--json", "-", "--precision", "f32", "--threads", "1") == 0
    captured = capsys.readouterr()
    (case,) = json.loads(captured.out)["cases"]
    manifest = json.loads((model[0] / "bundle.json").read_text())
    reference = BoxPredictor(TorchBackend(model[1], manifest))
    expected = reference.set_image(IMAGE).predict(BOXES, mode)
    np.testing.assert_array_equal(read_labels(tmp_path / "o.png").pixels, expected.label_map())
    np.testing.assert_allclose(case["scores"], expected.scores, atol=1e-4)
    assert "RANDOM weights" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["auto", "f32", "float32"])
def test_precisions_have_aliases(segment, name):
    assert segment("--precision", name) == 0


def test_a_fallback_is_told(segment, tmp_path, monkeypatch, capsys):
    bundles.write_box(tmp_path / "b", channels=3, auto="bf16")
    monkeypatch.setattr(precision, "cpu_precisions", lambda: frozenset({"f32"}))
    assert segment(folder=tmp_path / "b") == 0
    assert capsys.readouterr().err == (
        "nnsam segment: computed in f32, since this CPU has no bf16 instructions, which the model was exported for\n"
    )
    assert segment("--precision", "bf16", "--overwrite", folder=tmp_path / "b") == 1
    assert "this CPU has no bf16 instructions; choose the precision f32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoint", "checkpoint_best.pth"), "holds no checkpoints to choose from"),
        (("--device", "cuda"), "which runs on the CPU; leave the device cuda out"),
        (("--precision", "int8"), "has no int8 network; here it is computed in f32"),
        (("--fold", "7"), "has no fold 7; it has 0, 1"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(segment, tmp_path, words, message, capsys):
    assert segment(*words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_folds_are_averaged_unless_one_is_chosen(model):
    patches = np.random.default_rng(0).normal(size=(1, 4, 32, 48)).astype(np.float32)
    results = [
        probabilities_of(load_predictor(model[0], folds=folds, precision="f32", device="cpu")[0].backend, patches)
        for folds in (None, ["0"], ["1"])
    ]
    np.testing.assert_allclose(results[0], (results[1] + results[2]) / 2, atol=1e-6)


def test_damaged_and_unsuitable_bundles_are_one_sentence(segment, tmp_path, capsys):
    bundles.write_automatic(tmp_path / "automatic")
    bundles.write_box(tmp_path / "damaged", channels=3)
    path = tmp_path / "damaged" / "unet_fold0.bin"
    path.write_bytes(path.read_bytes()[:-4] + b"edit")
    for name, message in (("automatic", "use it with `nnsam predict`"), ("damaged", "is damaged or was edited")):
        assert segment(folder=tmp_path / name) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_model_folders_have_no_int8(segment, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "plans.json").write_text("{}")
    assert segment("--precision", "int8", folder=tmp_path / "folder") == 1
    assert "export it first with `nnsam export`" in capsys.readouterr().err


# Raises on the import of what a minimal installation lacks.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "nnunetv2", "timm", "batchgenerators"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Blocker())
"""
CHECK = """
import sys
from nnsam.cli.main import main
folder, image, out = sys.argv[1:]
words = ["segment", folder, "-i", image, "--box", "5,10,30,25", "-o", out]
assert main(words) == 0
heavy = {"torch", "nnunetv2", "timm", "matplotlib", "skimage", "scipy.ndimage", "SimpleITK", "openvino_telemetry"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert main([*words, "--mode", "faithful", "--overlay", "--probabilities", "--json", out + ".json", "--overwrite"]) == 0
from nnsam.errors import NnsamWarning
from nnsam.runtime import BoxPredictor
import warnings
import numpy as np
warnings.simplefilter("ignore", NnsamWarning)  # of the test's own SAM branch
volume = np.random.default_rng(0).random((4, 40, 50))
BoxPredictor.open(folder).set_image(volume).predict([3, 3, 0, 30, 30, 3]).label_map()
assert not {"torch", "nnunetv2", "timm"} & set(sys.modules), sorted(sys.modules)
"""


def run_code(code, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("prefix", ["", BLOCKER], ids=["installed", "blocked"])
def test_neither_pytorch_nor_nnunet_is_imported(model, tmp_path, prefix):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    done = run_code(prefix + CHECK, model[0], tmp_path / "a.png", tmp_path / "o.png")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


def test_the_check_of_imports_can_fail(model, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    done = run_code("import torch\n" + CHECK, model[0], tmp_path / "a.png", tmp_path / "o.png")
    assert "AssertionError" in done.stderr
    assert "No module named 'torch'" in run_code(BLOCKER + "import torch").stderr


def test_masks_of_0_and_255_are_scored_as_the_guide_says(model, tmp_path, capsys):
    """`--boxes MASKS` keeps 255; masks of a plain box are scored against the converted references."""
    images, masks, raw = tmp_path / "images", tmp_path / "masks", tmp_path / "Dataset100_Lesions"
    mask = np.zeros(IMAGE.shape[:2], np.uint8)
    mask[10:40, 12:50] = 255
    for folder, pixels in ((images, IMAGE), (masks, mask)):
        folder.mkdir()
        Image.fromarray(pixels).save(folder / "a.png")
    (tmp_path / "boxes.json").write_text('{"boxes": [[12, 10, 49, 39]], "labels": [255]}')

    def scored(number, references, *prompts):
        segs = tmp_path / f"segs{number}"
        words = ["segment", model[0], "-i", images, "-o", segs, "--precision", "f32", *prompts]
        assert main(list(map(str, words))) == 0
        values = np.unique(read_labels(segs / "a.png").pixels).tolist()
        capsys.readouterr()
        assert main(["evaluate", "-p", str(segs), "-r", str(references), "--json"]) == 0
        captured = capsys.readouterr()
        return values, json.loads(captured.out)["case_scores"]["a"]["DSC"], captured.err

    assert main(["convert", "images", str(images), str(masks), "-o", str(raw)]) == 0
    dice = []
    for number, references, prompts, expected in (
        (0, masks, ("--boxes", masks), [0, 255]),
        (1, masks, ("--boxes", tmp_path / "boxes.json"), [0, 255]),
        (2, raw / "labelsTr", ("--box", "12,10,49,39"), [0, 1]),
    ):
        values, score, errors = scored(number, references, *prompts)
        assert values == expected
        assert "share no label" not in errors
        dice.append(score)
    assert dice[0] == dice[1] == dice[2] > 0
    values, score, errors = scored(3, masks, "--box", "12,10,49,39")
    assert (values, score) == ([0, 1], 0)
    assert "share no label" in errors
