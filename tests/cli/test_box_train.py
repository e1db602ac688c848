"""`nnsam box-train`: its steps in order, resumable at each of them; and once in earnest."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nnsam.cli import box_train
from nnsam.cli.main import main
from nnsam.errors import NnsamError
from nnsam.nnunet import commands

SCORES = {
    "cases": 1,
    "seen": False,
    "DSC": {"object": 0.9},
    "ellipse": {"object": 0.8},
    "mean": 0.9,
    "mean_ellipse": 0.8,
}


def write_pictures(folder, count=8, size=64):
    """Bright ellipses on noise, and their masks."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        y, x = np.ogrid[:size, :size]
        centre, radius = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.12, 0.3, 2) * size
        mask = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
        image = np.clip(rng.normal(60, 12, (size, size)) + 110 * mask, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"p{index}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"p{index}.png")
    return folder


class Commands:
    """Stands in for nnU-Net's commands: notes them, leaves behind what they leave, and fails where it is told to."""

    def __init__(self):
        self.done, self.fails = [], None

    def __call__(self, command, arguments, *, log, environment):
        words = [command, *map(str, arguments)]
        step = words[1] if command == "nnsam" else command
        is_trial = "_1epochs_" in " ".join(words)
        if command == "nnUNetv2_train":
            step = "trial" if is_trial else "train"
            folder = f"{environment['nnUNet_results']}/{words[1]}/{words[words.index('-tr') + 1]}__nnSAMBoxPlans__2d"
            fold = box_train.Path(folder, f"fold_{words[3]}")
            fold.mkdir(parents=True, exist_ok=True)
            (fold / "training_log_1.txt").write_text("Epoch time: 4.0 s\n")
            (fold / "checkpoint_best.pth").write_text("")
        if step == self.fails:
            raise NnsamError(f"{step} failed")
        self.done.append((step, words))
        if step == "export":
            box_train.Path(words[words.index("-o") + 1]).mkdir()

    @property
    def steps(self):
        return [step for step, _ in self.done]


@pytest.fixture
def fake(monkeypatch):
    stand_in = Commands()
    monkeypatch.setattr(commands, "run_nnunet", stand_in)
    monkeypatch.setattr(box_train, "score_bundle", lambda bundle, raw, cases: {**SCORES, "held_out": list(cases)})
    return stand_in


def train(tmp_path, *options):
    return main(["box-train", str(tmp_path / "data"), "-o", str(tmp_path / "bundle"), *map(str, options)])


STEPS = ["plan-box", "nnUNetv2_preprocess", "trial", "train", "export"]


def test_all_steps_in_order_with_epochs_for_the_minutes(fake, tmp_path, capsys):
    write_pictures(tmp_path / "data")
    assert train(tmp_path, "--minutes", 10, "--device", "cpu") == 0
    assert fake.steps == STEPS
    words = dict(fake.done)
    # the trial's 20 steps took 4 s, so that an epoch of 100 takes 20 s
    assert "nnSAMBoxFastTrainer_30epochs_100iters_seed0" in words["train"]
    assert words["train"][3] == "0"
    assert "--c" not in words["train"]
    output = capsys.readouterr().out
    assert "note: The masks hold 0 and 255, written as 0 and 1." in output
    assert "30 epochs of 100 steps, about 10 min" in output
    assert "object: DSC 0.900 (the ellipse in the box: 0.800)" in output
    assert "over 1 cases that were held out" in output
    scores = json.loads((tmp_path / "bundle_work" / "scores.json").read_text())
    assert 1 <= len(scores["held_out"]) <= 2


def models(tmp_path):
    return [path.name for path in (tmp_path / "bundle_work" / "nnUNet_results").glob("*/*")]


def test_the_model_alone_is_left_in_the_results(fake, tmp_path):
    write_pictures(tmp_path / "data")
    assert train(tmp_path, "--minutes", 10, "--device", "cpu") == 0
    assert models(tmp_path) == ["nnSAMBoxFastTrainer_30epochs_100iters_seed0__nnSAMBoxPlans__2d"]


@pytest.mark.parametrize("step", ["trial", "train"])
def test_the_trial_of_a_killed_run_is_removed_when_it_goes_on(fake, tmp_path, monkeypatch, step):
    """Killed in the trial, or between the record of its end and the removal."""
    write_pictures(tmp_path / "data")
    fake.fails = step
    with monkeypatch.context() as patch:
        patch.setattr(box_train.BoxTraining, "_remove_trial", lambda self: None)
        assert train(tmp_path, "--device", "cpu") == 1
    assert any("_1epochs_20iters_" in name for name in models(tmp_path))
    fake.fails, fake.done = None, []
    assert train(tmp_path, "--device", "cpu") == 0
    assert ("trial" in fake.steps) == (step == "trial")
    assert len(models(tmp_path)) == 1
    assert "_1epochs_" not in models(tmp_path)[0]


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_run_goes_on_where_it_was(fake, tmp_path, capsys, step):
    write_pictures(tmp_path / "data")
    fake.fails = step
    assert train(tmp_path, "--device", "cpu") == 1
    assert f"{step} failed in {tmp_path / 'bundle_work'}" in capsys.readouterr().err
    before, fake.fails, fake.done = fake.steps, None, []
    assert train(tmp_path, "--device", "cpu") == 0
    assert before + fake.steps == STEPS
    if step == "train":
        assert "--c" in dict(fake.done)["train"]
    assert "going on in" in capsys.readouterr().out
    fake.done = []
    assert train(tmp_path, "--device", "cpu") == 0  # all is done: the scores again
    assert fake.steps == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("minutes", "begun with minutes 60, now 5"),
        ("model", "begun with model small, now full"),
        ("file", "begun with other images or masks"),
    ],
)
def test_other_data_or_options_are_another_run(fake, tmp_path, capsys, change, words):
    write_pictures(tmp_path / "data")
    assert train(tmp_path, "--device", "cpu") == 0
    options = {"minutes": ["--minutes", 5], "model": ["--model", "full"]}.get(change, [])
    if change == "file":
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "data" / "masks" / "p0.png")
    capsys.readouterr()
    assert train(tmp_path, "--device", "cpu", *options) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "give another --work, or remove it" in error


def test_raw_data_sets_are_taken_as_they_are_and_few_cases_have_no_fold(fake, tmp_path, capsys):
    write_pictures(tmp_path / "pictures", count=3)
    raw = tmp_path / "raw" / "Dataset007_Few"
    pictures = [tmp_path / "pictures" / name for name in ("images", "masks")]
    assert main(["convert", "images", *map(str, pictures), "-o", str(raw)]) == 0
    (raw / "splits_final.json").unlink()
    assert main(["box-train", str(raw), "-o", str(tmp_path / "bundle"), "--device", "cpu"]) == 0
    assert dict(fake.done)["train"][1:4] == ["Dataset007_Few", "2d", "all"]
    assert "convert" not in capsys.readouterr().out.replace("converted", "").split("a raw nnU-Net data set")[1]


def test_what_cannot_be_used_is_one_sentence(fake, tmp_path, capsys):
    def refused(words, *options):
        assert train(tmp_path, "--device", "cpu", *options) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1

    refused("data is no folder")
    (tmp_path / "data").mkdir()
    refused("holds neither the folders images and masks nor a raw nnU-Net data set")
    refused("'(' is not a regular expression", "--patient", "(")
    refused("--minutes is 0; expected a number above 0", "--minutes", "0")
    write_pictures(tmp_path / "data")
    refused("'(' is not a regular expression", "--patient", "(")
    assert not (tmp_path / "bundle_work").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    refused("other exists and is no work folder of this command", "--work", tmp_path / "other")
    (tmp_path / "bundle").mkdir()
    refused("bundle exists; give another output")
    (tmp_path / "bundle").rmdir()
    assert not (tmp_path / "bundle_work").exists()


def test_data_that_were_mended_after_a_failed_conversion_are_taken(fake, tmp_path, capsys):
    write_pictures(tmp_path / "data")
    (tmp_path / "data" / "masks" / "p0.png").rename(tmp_path / "p0.png")
    assert train(tmp_path, "--device", "cpu") == 1
    assert "1 images of" in capsys.readouterr().err
    (tmp_path / "p0.png").rename(tmp_path / "data" / "masks" / "p0.png")
    assert train(tmp_path, "--device", "cpu") == 0


def test_few_minutes_make_short_epochs(fake, tmp_path):
    """A step takes 0.2 s here: 6 s hold 30."""
    write_pictures(tmp_path / "data")
    assert train(tmp_path, "--device", "cpu", "--minutes", "0.1") == 0
    assert "nnSAMBoxFastTrainer_2epochs_15iters_seed0" in dict(fake.done)["train"]


def run(*words):
    """Types a command and returns what it printed; shows that, and the stack where it died, if it fails."""
    command = [sys.executable, "-X", "faulthandler", "-m", "nnsam", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# In processes of their own, as they are typed: compilers and libraries of other tests have no part in it.
@pytest.mark.slow
@pytest.mark.timeout(1500)  # old processors take seconds per step
def test_from_pictures_to_a_bundle(tmp_path):
    write_pictures(tmp_path / "data")
    bundle = tmp_path / "bundle"
    output = run("box-train", tmp_path / "data", "-o", bundle, "--minutes", "0.2", "--device", "cpu")
    assert "that were held out; tight boxes" in output
    scores = json.loads((tmp_path / "bundle_work" / "scores.json").read_text())
    assert scores["seen"] is False
    assert 0 <= scores["mean"] <= 1
    picture, mask = tmp_path / "data" / "images" / "p0.png", tmp_path / "mask.png"
    run("segment", bundle, "-i", picture, "--box", "10,10,50,50", "-o", mask)
    assert mask.is_file()


def test_a_command_that_fails_is_seen_with_what_it_printed():
    with pytest.raises(AssertionError, match="no folder"):
        run("box-train", "nowhere", "-o", "bundle")


@pytest.mark.parametrize(
    ("checkpoints", "words"),
    [
        ((), "go on, training from its beginning"),
        (("checkpoint_best.pth",), "go on, training from checkpoint_best.pth"),
        (("checkpoint_best.pth", "checkpoint_latest.pth"), "go on, training from checkpoint_latest.pth"),
    ],
)
def test_ctrl_c_in_training_says_what_it_goes_on_from(fake, tmp_path, capsys, monkeypatch, checkpoints, words):
    write_pictures(tmp_path / "data")
    stand_in = box_train.BoxTraining._train

    def interrupted(self):
        output = self._output(self.state["trainer"])
        output.mkdir(parents=True)
        for name in checkpoints:
            (output / name).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(box_train.BoxTraining, "_train", interrupted)
    assert train(tmp_path, "--device", "cpu") == 130
    assert f"interrupted; run the same command to {words}\n" in capsys.readouterr().out
    monkeypatch.setattr(box_train.BoxTraining, "_train", stand_in)
    assert train(tmp_path, "--device", "cpu") == 0
    assert ("--c" in dict(fake.done)["train"]) == bool(checkpoints)
