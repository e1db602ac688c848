"""`nnsam fewshot run` and `status`, with a stand-in for nnU-Net; and once with nnU-Net itself."""

import json
import subprocess
import sys

import pytest
from helpers.fake_study import FakeStudy, let_nnunet_find

from nnsam.cli.main import main

BUDGET = ["--epochs", "1", "--iterations", "2", "--device", "cpu"]
METHODS = ["nnUNetTrainer", "nnSAMLevelSetOnlyTrainer"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    return FakeStudy(tmp_path, monkeypatch)


def run(study, *arguments):
    return main(["fewshot", "run", str(study.experiment), *BUDGET, *arguments])


def test_runs_status_and_second_call(study, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CRASH", "LevelSet")
    assert run(study, "--methods", *METHODS, "--seeds", "0", "--jobs", "2") == 1
    captured = capsys.readouterr()
    assert "nnUNetTrainer n2_s0 done (prepare" in captured.out
    assert "nnSAMLevelSetOnlyTrainer n2_s0 failed: nnUNetv2_train failed" in captured.out
    assert "1 of 2 runs are done; 1 failed" in captured.err

    monkeypatch.setenv("FAKE_CRASH", "-none-")
    assert run(study, "--methods", *METHODS, "--seeds", "0") == 1
    captured = capsys.readouterr()
    assert "2 of 2 runs were finished before." in captured.out
    assert "the network has exploded" in captured.err

    assert main(["fewshot", "status", str(study.experiment)]) == 0
    text = capsys.readouterr().out
    assert "1 of 4 runs are done" in text
    assert "the network has exploded" in text
    assert "pending" in text

    assert run(study, "--methods", *METHODS, "--seeds", "0", "--retry-failed") == 0
    assert "2 of 2 runs are done" in capsys.readouterr().err
    assert main(["fewshot", "status", str(study.experiment), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [entry["state"] for entry in content["runs"]] == ["done", "done"]
    assert content["runs"][0]["budget"] == {"epochs": 1, "iterations": 2}


def test_dry_run_changes_nothing(study, capsys):
    before = sorted(study.experiment.rglob("*"))
    assert run(study, "--methods", *METHODS, "--dry-run") == 0
    captured = capsys.readouterr()
    command = (
        "nnUNetv2_train Dataset101_n2s1 2d 0 -tr nnSAMBaselineTrainer_1epochs_2iters_seed1 -p nnUNetPlans -device cpu"
    )
    assert command in captured.out
    assert "4 of 4 runs would be made or continued; nothing was done." in captured.err
    assert "nnUNetTrainer is trained as nnSAMBaselineTrainer: nnU-Net's network, loss and training" in captured.err
    assert captured.err.count("is trained as") == 1
    assert sorted(study.experiment.rglob("*")) == before


def test_status_of_a_study_that_was_not_started(study, capsys):
    assert main(["fewshot", "status", str(study.experiment)]) == 0
    assert "No run was started" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "magicnet"], "the method 'magicnet' is unknown; known are nnUNetTrainer"),
        (["--methods", "nnUNetTrainer", "--sizes", "99"], "the study has the sizes 2, not 99"),
        (["--methods", "nnUNetTrainer", "--epochs", "0"], "the number of epochs is 0"),
        (["--methods", "nnUNetTrainer", "--jobs", "-1"], "--jobs -1"),
        (["--methods", "nnUNetTrainer", "--executor", "slurm", "--slurm", "x"], "expected KEY=VALUE"),
    ],
)
def test_sentences(study, capsys, monkeypatch, arguments, sentence):
    let_nnunet_find(monkeypatch)  # its own answer is tested below
    assert run(study, *arguments) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (study.experiment / "runs").exists()


def test_live_table(study, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    assert run(study, "--methods", "nnUNetTrainer", "--seeds", "0") == 0
    captured = capsys.readouterr()
    assert "seed 0" in captured.out
    assert "done" in captured.out
    assert "1 of 1 runs are done" in captured.err


@pytest.mark.slow
def test_nnunet_is_asked_for_its_trainers(study, capsys):
    assert run(study, "--methods", "magicnet", "--dry-run") == 1
    assert "unknown" in capsys.readouterr().err
    assert run(study, "--methods", "nnUNetTrainer_5epochs", "--dry-run") == 0
    assert "-tr nnUNetTrainer_5epochs" in capsys.readouterr().out


@pytest.mark.slow
def test_with_nnunet_itself(tmp_path):
    """Two methods, one size, one seed, one epoch of two iterations on phantoms."""
    from nnsam.datasets.phantom import write_phantom_dataset

    raw = write_phantom_dataset(tmp_path / "Dataset001_Phantoms", n_train=6, n_test=2, size=(64, 64))
    experiment = tmp_path / "study"
    nnsam = [sys.executable, "-m", "nnsam", "fewshot"]
    prepare = ["prepare", "-d", str(raw), "-o", str(experiment), "--sizes", "2", "--seeds", "1"]
    subprocess.run([*nnsam, *prepare, "--val", "2", "--test", "2"], check=True)
    options = ["--methods", *METHODS, *BUDGET, "--score-validation", "--threads", "1"]
    subprocess.run([*nnsam, "run", str(experiment), *options], check=True)
    protocol = json.loads((experiment / "protocol.json").read_text())
    for method in METHODS:
        folder = experiment / "runs" / method / "n2_s0"
        record = json.loads((folder / "run.json").read_text())
        assert record["state"] == "done"
        log = (folder / "log.txt").read_text()
        assert "Training done." in log
        assert "Validation complete" not in log
        for part, name in (("test", "scores.json"), ("validation", "scores_validation.json")):
            assert sorted(json.loads((folder / name).read_text())["cases"]) == sorted(protocol[part])
    # Both were planned once, and a second call does nothing.
    before = {path: path.stat().st_mtime_ns for path in experiment.rglob("*") if path.is_file()}
    subprocess.run([*nnsam, "run", str(experiment), *options], check=True)
    assert {path: path.stat().st_mtime_ns for path in experiment.rglob("*") if path.is_file()} == before
