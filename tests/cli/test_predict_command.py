"""`nnsam predict` with tiny models: files, options, messages and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.bundles import write_automatic, write_box
from skimage.io import imread, imsave

from nnsam.cli.main import build_parser, main
from nnsam.inference.automatic.predictor import Predictor
from nnsam.inference.folders.record import RECORD
from nnsam.support.openvino import cpu_precisions

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    write_automatic(folder, folds=("0", "1"))
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in NAMES:
        picture = generator.integers(0, 256, (40, 60), dtype=np.uint8)
        imsave(folder / f"{name}_0000.png", picture, check_contrast=False)
    return folder


def predict(*words):
    return main(["predict", *map(str, words)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder(bundle, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(bundle, "-i", images, "-o", out, "--json", tmp_path / "run.json", "--precision", "f32") == 0
    assert names(out) == ["a.png", "b.png", "c.png", "dataset.json", RECORD]
    text = capsys.readouterr()
    for name in NAMES:
        assert re.search(rf"^{name} -> {re.escape(str(out))}.{name}\.png: \d+\.\d s$", text.out, re.MULTILINE)
    assert len(text.out.splitlines()) == 3
    assert "nnsam predict: nnSAMTrainer, 2d, Dataset901_Toy, folds 0, 1; precision f32 (as asked)" in text.err
    expected = Predictor.open(bundle, "f32", cache=False).predict(imread(images / "b_0000.png")).segmentation
    np.testing.assert_array_equal(imread(out / "b.png"), expected)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["options"] == {
        "precision": "f32",
        "folds": ["0", "1"],
        "mirror": True,
        "step": 0.5,
        "save_probabilities": False,
        "threads": 0,
    }
    assert [case["case"] for case in content["cases"]] == NAMES
    assert all(set(case["seconds"]) == {"read", "infer", "write"} for case in content["cases"])
    assert content["machine"]["cores"] == os.cpu_count()
    assert content["model"]["dataset"] == "Dataset901_Toy"


def test_the_reason_of_the_precision_is_told(bundle, images, tmp_path, capsys):
    predict(bundle, "-i", images / "a_0000.png", "-o", tmp_path / "a.png")
    assert "precision f32 (made for a test)" in capsys.readouterr().err


def test_json_on_standard_output_and_quiet(bundle, images, tmp_path, capsys):
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--json", "-") == 0
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 3
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_one_file(bundle, images, tmp_path):
    assert predict(bundle, "-i", images / "a_0000.png", "-o", tmp_path / "new" / "mask.png") == 0
    assert names(tmp_path / "new") == ["mask.png"]
    assert predict(bundle, "-i", images / "a_0000.png", "-o", tmp_path / "folder") == 0
    assert names(tmp_path / "folder") == ["a.png", "dataset.json", RECORD]
    np.testing.assert_array_equal(imread(tmp_path / "new" / "mask.png"), imread(tmp_path / "folder" / "a.png"))


def test_the_channels_of_one_case(tmp_path):
    write_automatic(tmp_path / "bundle", channels=2)
    generator = np.random.default_rng(0)
    for number in range(2):
        picture = generator.integers(0, 256, (40, 60), dtype=np.uint8)
        imsave(tmp_path / f"x_{number:04d}.png", picture, check_contrast=False)
    files = [tmp_path / "x_0000.png", tmp_path / "x_0001.png"]
    assert predict(tmp_path / "bundle", "-i", *files, "-o", tmp_path / "mask.png") == 0
    assert imread(tmp_path / "mask.png").shape == (40, 60)


def test_nnunets_spellings(bundle, images, tmp_path):
    out = tmp_path / "out"
    words = ("--disable_tta", "--save_probabilities", "-step_size", "0.7", "--folds", "1", "--threads", "1")
    assert predict(bundle, "-i", images, "-o", out, *words) == 0
    assert json.loads((out / RECORD).read_text())["settings"] == {
        "precision": "f32",
        "folds": ["1"],
        "mirror": False,
        "step": 0.7,
        "save_probabilities": True,
        "threads": 1,
    }
    assert (out / "a.npz").is_file()
    assert predict(bundle, "-i", images, "-o", out, *words, "--continue_prediction") == 0


def test_continue(bundle, images, tmp_path, capsys):
    out = tmp_path / "out"
    predict(bundle, "-i", images, "-o", out)
    (out / "b.png").unlink()
    capsys.readouterr()
    assert predict(bundle, "-i", images, "-o", out, "--continue", "--cases-in-memory", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("was done before") for line in lines] == [True, True, False]
    assert predict(bundle, "-i", images, "-o", out, "--continue", "--disable-tta") == 1
    assert "mirror True there and False now" in capsys.readouterr().err
    assert predict(bundle, "-i", images, "-o", out, "--continue", "--threads", 1) == 1
    assert "threads 0 there and 1 now" in capsys.readouterr().err


def test_reference_labels_are_not_replaced(bundle, images, tmp_path, capsys):
    references = tmp_path / "labelsTs"
    references.mkdir()
    for name in NAMES:
        (references / f"{name}.png").write_text("reference")
    text = sentence(capsys, bundle, "-i", images, "-o", references)
    assert "a.png (and 2 more) exist, and no record says that this command wrote them" in text
    assert "--overwrite" in text
    assert names(references) == ["a.png", "b.png", "c.png"]
    assert predict(bundle, "-i", images, "-o", references, "--overwrite") == 0
    assert predict(bundle, "-i", images, "-o", references) == 0  # its own
    assert imread(references / "a.png").shape == (40, 60)


def test_paths_of_a_run_do_not_meet(bundle, images, tmp_path, capsys):
    out, image = tmp_path / "out", images / "a_0000.png"
    assert "holds the images" in sentence(capsys, bundle, "-i", images, "-o", images)
    (tmp_path / "link").symlink_to(images)
    assert "holds the images" in sentence(capsys, bundle, "-i", images, "-o", tmp_path / "link")
    assert "would be overwritten" in sentence(capsys, bundle, "-i", images, "-o", out, "--json", image, "--overwrite")
    assert "both be written" in sentence(capsys, bundle, "-i", images, "-o", out, "--json", out / "b.png")
    for path in (bundle / "bundle.json", bundle / "new.json"):
        assert "lies in the model" in sentence(capsys, bundle, "-i", images, "-o", out, "--json", path, "--overwrite")
    assert "lies in the model" in sentence(capsys, bundle, "-i", images, "-o", bundle / "out")
    (tmp_path / "mask.png").write_text("by hand")
    assert "--overwrite" in sentence(capsys, bundle, "-i", image, "-o", tmp_path / "mask.png")
    (tmp_path / "a.json").write_text("{}")
    assert "--overwrite" in sentence(capsys, bundle, "-i", images, "-o", out, "--json", tmp_path / "a.json")
    assert not out.exists()
    for _ in range(2):
        assert predict(bundle, "-i", images, "-o", out, "--json", tmp_path / "own.json") == 0


def test_what_is_wrong_is_said_before_the_model_is_loaded(bundle, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Predictor, "open", lambda *args, **options: pytest.fail("loaded"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text("{}")
    assert "belongs to something else" in sentence(capsys, bundle, "-i", images, "-o", tmp_path / "out")
    assert "no fold 7" in sentence(capsys, bundle, "-i", images, "-o", tmp_path / "new", "--folds", "7")


def test_failures_are_told_and_give_1(bundle, images, tmp_path, capsys):
    (images / "b_0000.png").write_bytes(b"\x89PNG")
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--json", tmp_path / "run.json") == 1
    text = capsys.readouterr()
    assert "nnsam predict: 1 of 3 cases failed:\n  " in text.err
    assert "b_0000.png" in text.err
    assert "Traceback" not in text.err
    assert len(text.out.splitlines()) == 2
    errors = [case["error"] for case in json.loads((tmp_path / "run.json").read_text())["cases"]]
    assert [error is None for error in errors] == [True, False, True]


def sentence(capsys, *words):
    """Runs a command that must fail with one line."""
    assert predict(*words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("nnsam predict: ")
    return lines[0]


def test_wrong_models(bundle, images, tmp_path, capsys):
    out = tmp_path / "out"
    write_box(tmp_path / "box")
    assert "`nnsam segment`" in sentence(capsys, tmp_path / "box", "-i", images, "-o", out)
    trained = tmp_path / "trained"
    trained.mkdir()
    (trained / "plans.json").write_text("{}")
    assert "export it first with `nnsam export`" in sentence(capsys, trained, "-i", images, "-o", out)
    assert "no fold 7; it has 0, 1" in sentence(capsys, bundle, "-i", images, "-o", out, "--folds", 7)
    assert "no int8 network" in sentence(capsys, bundle, "-i", images, "-o", out, "--precision", "int8")
    write_automatic(tmp_path / "cut")
    weights = tmp_path / "cut" / "unet_fold0.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged" in sentence(capsys, tmp_path / "cut", "-i", images, "-o", out)
    assert not out.exists()


def test_wrong_files(bundle, images, tmp_path, capsys):
    image = images / "a_0000.png"
    assert "does not exist" in sentence(capsys, bundle, "-i", tmp_path / "none", "-o", tmp_path / "out")
    assert "ending with .png" in sentence(capsys, bundle, "-i", image, "-o", tmp_path / "mask.nii.gz")
    assert "--continue needs a folder" in sentence(capsys, bundle, "-i", image, "-o", tmp_path / "m.png", "--continue")
    assert "--ray needs a folder" in sentence(capsys, bundle, "-i", image, "-o", tmp_path / "m.png", "--ray", "local")
    assert "would be overwritten" in sentence(capsys, bundle, "-i", image, "-o", image)
    (tmp_path / "file").write_text("")
    assert "is a file" in sentence(capsys, bundle, "-i", images, "-o", tmp_path / "file")
    assert {*names(tmp_path)} - {"nnsam_home"} == {"file", "images"}


@pytest.mark.parametrize(
    "words",
    [
        ("--step-size", "0"),
        ("--step-size", "1.5"),
        ("--step-size", "nan"),
        ("--step-size", "half"),
        ("--threads", "-1"),
        ("--cases-in-memory", "0"),
        ("--precision", "f8"),
        ("--ray-workers", "0"),
    ],
)
def test_wrong_usage_gives_2(bundle, images, tmp_path, words):
    with pytest.raises(SystemExit) as error:
        predict(bundle, "-i", images, "-o", tmp_path / "out", *words)
    assert error.value.code == 2


def test_a_precision_that_the_cpu_lacks(bundle, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nnsam.support.openvino.cpu_precisions", lambda: frozenset({"f32"}))
    text = sentence(capsys, bundle, "-i", images, "-o", tmp_path / "out", "--precision", "bf16")
    assert "no bf16 instructions" in text


@pytest.mark.skipif("bf16" not in cpu_precisions(), reason="this CPU does not compute bfloat16")
def test_bf16(bundle, images, tmp_path):
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--precision", "bf16") == 0
    assert json.loads((tmp_path / "out" / RECORD).read_text())["settings"]["precision"] == "bf16"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        build_parser("predict").parse_args(["predict", "--help"])
    text = capsys.readouterr().out
    assert "nnsam predict heart_bundle -i imagesTs -o predictions" in text
    assert "--continue" in text


def test_ray_gets_everything(bundle, images, tmp_path, monkeypatch, capsys):
    from nnsam.inference.folders import on_ray
    from nnsam.inference.folders.predict import FolderReport

    calls = []
    monkeypatch.setattr(
        on_ray, "predict_on_ray", lambda *args, **options: calls.append((args, options)) or FolderReport()
    )
    words = (
        "--ray",
        "host:1",
        "--ray-workers",
        "3",
        "--threads",
        "2",
        "--continue",
        "--folds",
        "0",
        "--precision",
        "f32",
    )
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", *words) == 0
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--ray") == 0
    (given, output, cases, options), named = (
        (calls[0][0][0], calls[0][0][2], calls[0][0][1], calls[0][0][3]),
        calls[0][1],
    )
    assert given.folder == bundle
    assert str(output) == str(tmp_path / "out")
    assert [case.name for case in cases] == NAMES
    assert (options.precision, options.folds, options.mirror, options.step) == ("f32", ("0",), True, 0.5)
    assert {name: named[name] for name in ("address", "workers", "threads", "resume")} == {
        "address": "host:1",
        "workers": 3,
        "threads": 2,
        "resume": True,
    }
    assert calls[1][1]["address"] is None
    assert calls[1][0][3].folds == ("0", "1")


def test_without_ray_there_is_a_sentence(bundle, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert predict(bundle, "-i", images, "-o", tmp_path / "out", "--ray", "local") == 1
    assert "Ray is not installed" in capsys.readouterr().err


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "nnunetv2", "timm", "torchvision", "batchgenerators"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
from nnsam.cli.main import main
code = main(sys.argv[1:])
assert not {"torch", "nnunetv2"} & set(sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize("sam", [False, True])
def test_without_torch_and_nnunet(images, tmp_path, sam):
    write_automatic(tmp_path / "bundle", sam=sam)
    words = ["predict", tmp_path / "bundle", "-i", images, "-o", tmp_path / "out", "--json", tmp_path / "run.json"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "c.png").is_file()
    assert (tmp_path / "run.json").is_file()


def test_the_block_blocks():
    code = WITHOUT_TORCH.replace("from nnsam.cli.main import main", "import torch")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "blocked: torch" in done.stderr


INTERRUPTED = """
import sys, time
from nnsam.inference.automatic import predictor
infer = predictor.Predictor.infer
def slow(*args, **options):
    time.sleep(0.4)
    return infer(*args, **options)
predictor.Predictor.infer = slow
from nnsam.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c(bundle, images, tmp_path):
    out = tmp_path / "out"
    words = ["predict", bundle, "-i", images, "-o", out, "--json", tmp_path / "run.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    give_up = time.monotonic() + 60
    while not (out / "a.png").exists():
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    time.sleep(0.1)  # the record follows the label map
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 of 3 cases are done; --continue goes on with the rest" in text
    assert "nnsam predict: interrupted" in text
    assert "Traceback" not in text
    assert names(out) == ["a.png", "dataset.json", RECORD]
    assert not (tmp_path / "run.json").exists()


def test_bars_are_shown_only_on_terminals(monkeypatch, tmp_path, capsys):
    import io

    from nnsam.cli.predict import Screen

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with Screen(2, quiet=False) as screen:
            screen.tile_done("heart", 3, 8)
        assert ("heart" in stream.getvalue()) is expected


def test_a_report_replaces_neither_record_nor_classes(bundle, images, tmp_path, capsys):
    for name in (RECORD, "dataset.json"):
        out = tmp_path / name.partition(".")[0]
        assert predict(bundle, "-i", images, "-o", out, "--json", out / name, "--overwrite") == 1
        assert "would both be written to" in capsys.readouterr().err
        assert not out.exists()


def test_a_pipe_gets_the_label_map(bundle, images, tmp_path):
    """What is written through is not read again, which would wait for ever."""
    pipe = tmp_path / "o.png"
    os.mkfifo(pipe)
    with (tmp_path / "got.png").open("wb") as file, subprocess.Popen(["cat", str(pipe)], stdout=file) as reader:
        assert predict(bundle, "-i", images / "a_0000.png", "-o", pipe) == 0
        assert reader.wait(60) == 0
    assert imread(tmp_path / "got.png").shape == (40, 60)


def test_channels_in_another_order_are_another_case(images, tmp_path, capsys):
    write_automatic(tmp_path / "two", channels=2)
    paths = [images / "t1.png", images / "t2.png"]
    for path, name in zip(paths, "ab", strict=True):
        (images / f"{name}_0000.png").rename(path)
    assert predict(tmp_path / "two", "-i", *paths, "-o", tmp_path / "out") == 0
    assert predict(tmp_path / "two", "-i", *paths, "-o", tmp_path / "out", "--continue") == 0
    assert "was done before" in capsys.readouterr().out
    assert predict(tmp_path / "two", "-i", *paths[::-1], "-o", tmp_path / "out", "--continue") == 0
    assert "was done before" not in capsys.readouterr().out


@pytest.mark.parametrize("step", ["0", "1e-9", "0.009", "1.5", "nan"])
def test_steps_that_take_for_ever_are_refused(bundle, images, tmp_path, capsys, step):
    with pytest.raises(SystemExit):
        predict(bundle, "-i", images, "-o", tmp_path / "out", "--step-size", step)
    assert "expected a number from 0.01 to 1" in capsys.readouterr().err


def test_an_empty_argument_is_told(images, tmp_path, capsys):
    assert predict("", "-i", images, "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == "nnsam: an argument is empty; is a variable of the shell unset?\n"


def test_what_is_no_bundle_is_told_apart(bundle, images, tmp_path, capsys):
    words = ("-i", images, "-o", tmp_path / "out")
    assert f"there is no folder {tmp_path / 'nosuch'}; expected a bundle" in sentence(
        capsys, tmp_path / "nosuch", *words
    )
    picture = images / "a_0000.png"
    assert f"{picture} is a file; expected a bundle, the folder that `nnsam export` made" in sentence(
        capsys, picture, *words
    )
    assert f"{images} is no bundle: it has no bundle.json" in sentence(capsys, images, *words)


def test_the_output_of_a_folder_is_no_name_of_a_file(bundle, images, tmp_path, capsys):
    text = sentence(capsys, bundle, "-i", images, "-o", tmp_path / "x.png")
    assert f"go into a folder; found {tmp_path / 'x.png'}, a name ending with .png: give a folder's name." in text
    assert not (tmp_path / "x.png").exists()
    (tmp_path / "x.png").mkdir()
    assert predict(bundle, "-i", images, "-o", tmp_path / "x.png") == 0
