"""Runs as Ray tasks: with a stand-in for Ray, and with Ray itself."""

import sys

import pytest
from helpers.fake_ray import FakeRay
from helpers.fake_study import FakeStudy

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.runs.executors import on_ray
from nnsam.fewshot.runs.executors.on_ray import RayExecutor
from nnsam.fewshot.runs.options import Budget, StudyRunOptions
from nnsam.fewshot.runs.state import RunKey

KEYS = [RunKey("nnUNetTrainer", 2, seed) for seed in (0, 1)]


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay(monkeypatch)
    monkeypatch.setattr(on_ray, "connected", fake.connected)
    return fake


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    (tmp_path / "protocol.json").write_text("{}")
    monkeypatch.setattr(on_ray, "run_worker", lambda experiment, key, options: ("done", str(options.threads)))
    return tmp_path


def test_tasks_have_a_share_of_the_processors_and_are_tried_again(ray, experiment):
    outcomes = [o for o in RayExecutor(jobs=2).run(experiment, KEYS, StudyRunOptions()) if o]
    assert [(o.key, o.ending, o.sentence) for o in outcomes] == [(key, "done", "2") for key in KEYS]
    assert ray.options == {"max_retries": 2, "retry_exceptions": True, "num_cpus": 2, "num_gpus": 0}


def test_lost_task_fails_its_run_only(ray, experiment):
    ray.lost = lambda key: True
    outcomes = [o for o in RayExecutor().run(experiment, KEYS, StudyRunOptions()) if o]
    assert [o.ending for o in outcomes] == ["failed", "failed"]
    assert "The worker died." in outcomes[0].sentence


def test_closing_cancels(ray, experiment):
    ray.wait = lambda tasks, num_returns, timeout: ([], tasks)
    outcomes = RayExecutor(jobs=2).run(experiment, KEYS, StudyRunOptions())
    next(outcomes)
    outcomes.close()
    assert [force for _, force in ray.cancelled] == [True, True]


def test_machine_without_the_files(ray, tmp_path):
    outcomes = [o for o in RayExecutor().run(tmp_path / "elsewhere", KEYS[:1], StudyRunOptions()) if o]
    assert outcomes[0].ending == "failed"
    assert "same file system" in outcomes[0].sentence


def test_tasks_that_fit_nowhere(ray, experiment):
    with pytest.raises(InputError, match="9 threads fits on no machine"):
        list(RayExecutor().run(experiment, KEYS, StudyRunOptions(threads=9)))
    with pytest.raises(InputError, match="no machine of the Ray cluster has a GPU"):
        list(RayExecutor().run(experiment, KEYS, StudyRunOptions(device="cuda")))


def test_without_ray(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match="Ray is not installed"):
        list(RayExecutor().run(tmp_path, KEYS, StudyRunOptions()))


@pytest.mark.slow
def test_real_ray(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    study = FakeStudy(tmp_path, monkeypatch)
    options = StudyRunOptions(Budget(1, 2))
    outcomes = [o for o in RayExecutor(2, "local").run(study.experiment, KEYS, options) if o]
    assert {(o.key, o.ending) for o in outcomes} == {(key, "done") for key in KEYS}
    assert [study.record(seed=seed)["state"] for seed in (0, 1)] == ["done", "done"]
