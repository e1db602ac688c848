"""Runs in processes that are killed: nothing is lost, nothing is done twice, nothing is left running."""

import os
import signal
import subprocess
import sys

import pytest
from helpers.fake_study import FakeStudy, is_alive, wait_until

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import Budget, StudyRunOptions
from nnsam.fewshot.runs.state import RunKey
from nnsam.fewshot.runs.worker import ending, run_worker, start_worker

KEY = RunKey("nnUNetTrainer", 2, 0)
OPTIONS = StudyRunOptions(Budget(1, 2), threads=1)
OTHER_MOMENTS = ("plan", "train", "predict")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def study(tmp_path, monkeypatch):
    study = FakeStudy(tmp_path, monkeypatch)
    monkeypatch.setenv("FAKE_STEPS", "6")
    monkeypatch.setenv("FAKE_SLEEP", "0.3")
    return study


def trainer_pids(study):
    return [int(line.split()[-1]) for line in study.journal("train")]


def check_each_step_once(study, method=""):
    """A step whose checkpoint was written is not trained again; the one that a kill cut off may be."""
    steps = [int(line.split()[-1]) for line in study.journal("step") if method in line]
    assert steps == sorted(steps)
    assert set(steps) == set(range(6))
    starts = [int(line.split()[4]) for line in study.journal("train") if method in line]
    assert len(steps) - 6 <= len(starts) - 1


def test_killed_worker_takes_nnunet_with_it_and_the_next_goes_on(study):
    first = start_worker(study.experiment, KEY, OPTIONS)
    study.wait_for("step", 2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert wait_until(lambda: not any(is_alive(pid) for pid in trainer_pids(study)))
    assert study.record()["state"] == "training"
    assert run_worker(study.experiment, KEY, OPTIONS) == ("done", "")
    starts = [int(line.split()[4]) for line in study.journal("train")]
    assert len(starts) == 2
    assert starts[1] >= 2
    check_each_step_once(study)
    assert study.record()["attempts"] == 2


def test_killed_while_predicting(study, monkeypatch):
    monkeypatch.setenv("FAKE_SLEEP", "0")
    monkeypatch.setenv("FAKE_PREDICT", "60")
    first = start_worker(study.experiment, KEY, OPTIONS)
    study.wait_for("predict")
    assert study.record()["state"] == "predicting"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    monkeypatch.setenv("FAKE_PREDICT", "0")
    assert run_worker(study.experiment, KEY, OPTIONS) == ("done", "")
    assert len(study.journal("train")) == 1
    assert len(study.journal("predict")) == 2
    assert not list(study.folder().glob(".*"))


def test_killed_nnunet_fails_the_run_with_its_signal(study):
    worker = start_worker(study.experiment, KEY, OPTIONS)
    study.wait_for("step")
    os.kill(trainer_pids(study)[0], signal.SIGKILL)
    worker.wait(60)
    assert ending(study.experiment, KEY, worker.returncode) == ("failed", "")
    assert "nnUNetv2_train failed (signal 9)" in study.record()["error"]


@pytest.mark.parametrize("when", ["step", *(pytest.param(when, marks=pytest.mark.slow) for when in OTHER_MOMENTS)])
def test_runner_killed_at_any_point(study, when):
    command = study.command("--methods", "nnUNetTrainer", "--seeds", "0", "--threads", "1")
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    study.wait_for(when)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    assert wait_until(lambda: not any(is_alive(pid) for pid in trainer_pids(study)))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert study.record()["state"] == "done"
    check_each_step_once(study)


def test_ctrl_c_stops_everything_and_keeps_what_is_there(study):
    command = study.command("--methods", "nnUNetTrainer", "--seeds", "0", "--threads", "1")
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    study.wait_for("step", 2)
    runner.send_signal(signal.SIGINT)
    _, errors = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert "the same command goes on with the rest" in errors
    assert "Traceback" not in errors
    assert wait_until(lambda: not any(is_alive(pid) for pid in trainer_pids(study)))
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    check_each_step_once(study)


def test_two_runners_share_the_work(study, monkeypatch):
    monkeypatch.setenv("FAKE_SLEEP", "0.05")
    command = study.command("--seeds", "0", "1", "--threads", "1")
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "ab"]
    texts = [runner.communicate(timeout=240)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], texts
    assert len(study.journal("train")) == 4
    assert len(study.journal("predict")) == 4
    assert {
        study.record(method, seed)["state"]
        for method in ("nnUNetTrainer", "nnSAMLevelSetOnlyTrainer")
        for seed in (0, 1)
    } == {"done"}


def test_refused_run_has_a_sentence(study, monkeypatch):
    monkeypatch.setenv("FAKE_SLEEP", "0")
    assert run_worker(study.experiment, KEY, OPTIONS) == ("done", "")
    name, sentence = run_worker(study.experiment, KEY, StudyRunOptions(Budget(9, 2), threads=1))
    assert name == "refused"
    assert "epochs 1" in sentence


def test_folder_that_cannot_be_made(study):
    (study.experiment / "runs").write_text("a file")
    with pytest.raises(InputError, match="cannot be written to"):
        start_worker(study.experiment, KEY, OPTIONS)


def test_lost_process_has_a_sentence(study):
    name, sentence = ending(study.experiment, KEY, -9)
    assert name == "failed"
    assert "SIGKILL" in sentence


def test_a_worker_starts_without_pytorch():  # importing it takes seconds, in every worker
    check = "import sys, nnsam.fewshot.runs.worker; assert not {'torch', 'nnunetv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", "import torch;" + check], check=True, stderr=subprocess.DEVNULL)
