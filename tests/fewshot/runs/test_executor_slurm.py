"""Runs as Slurm jobs, with a stand-in for submitit."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.runs.executors import on_slurm
from nnsam.fewshot.runs.executors.on_slurm import SlurmExecutor, SlurmRun
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import RunKey

KEYS = [RunKey("nnUNetTrainer", 2, seed) for seed in range(3)]


class Job:
    def __init__(self, function, number):
        self.function, self.job_id, self.polls, self.cancelled = function, str(number), number, False

    def done(self):
        self.polls -= 1
        return self.polls < 0

    def result(self):
        return self.function()

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def submitit(monkeypatch):
    fake = SimpleNamespace(made=[], jobs=[], in_batch=False)

    class AutoExecutor:
        def __init__(self, folder, cluster):
            if cluster == "absent":
                raise RuntimeError("Could not detect sbatch")
            fake.made.append((folder, cluster))

        def update_parameters(self, **parameters):
            if "nonsense" in parameters:
                raise NameError("Unknown argument nonsense")
            fake.parameters = parameters

        @contextmanager
        def batch(self):
            fake.in_batch = True
            yield
            fake.in_batch = False

        def submit(self, function):
            assert fake.in_batch, "one array, not many jobs"
            fake.jobs.append(Job(function, len(fake.jobs)))
            return fake.jobs[-1]

    fake.AutoExecutor = AutoExecutor
    fake.helpers = SimpleNamespace(DelayedSubmission=lambda function: ("again", function))
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(on_slurm, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(on_slurm, "run_worker", lambda experiment, key, options: ("done", str(options.threads)))
    return fake


def test_one_array_with_its_parameters(submitit, tmp_path):
    executor = SlurmExecutor(2, {"slurm_partition": "gpu", "timeout_min": "600"})
    outcomes = [o for o in executor.run(tmp_path, KEYS, StudyRunOptions(device="cuda", threads=6)) if o]
    assert [(o.key, o.ending, o.sentence) for o in outcomes] == [(key, "done", "6") for key in KEYS]
    assert submitit.made == [(str(tmp_path / "slurm"), "slurm")]
    assert submitit.parameters == {
        "name": "nnsam-fewshot",
        "cpus_per_task": 6,
        "tasks_per_node": 1,
        "gpus_per_node": 1,
        "slurm_array_parallelism": 2,
        "slurm_partition": "gpu",
        "timeout_min": 600,
    }


def test_default_threads_and_no_gpu(submitit, tmp_path):
    list(SlurmExecutor().run(tmp_path, KEYS, StudyRunOptions()))
    assert submitit.parameters == {"name": "nnsam-fewshot", "cpus_per_task": 4, "tasks_per_node": 1}


def test_lost_job(submitit, tmp_path, monkeypatch):
    def lose(experiment, key, options):
        raise RuntimeError("Job 7 (task: 0) with path ... was killed\nstderr")

    monkeypatch.setattr(on_slurm, "run_worker", lose)
    outcome = next(o for o in SlurmExecutor().run(tmp_path, KEYS[:1], StudyRunOptions()) if o)
    assert outcome.ending == "failed"
    assert "Slurm job 0 was lost (Job 7" in outcome.sentence
    assert "\n" not in outcome.sentence


def test_closing_cancels_what_is_left(submitit, tmp_path):
    outcomes = SlurmExecutor().run(tmp_path, KEYS, StudyRunOptions())
    assert next(outcomes).key == KEYS[0]
    outcomes.close()
    assert [job.cancelled for job in submitit.jobs] == [False, True, True]


def test_preempted_job_is_submitted_again(submitit, tmp_path):
    run = SlurmRun(tmp_path, KEYS[0], StudyRunOptions())
    assert run.checkpoint() == ("again", run)


def test_sentences(submitit, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="Unknown argument nonsense"):
        list(SlurmExecutor(0, {"nonsense": "1"}).run(tmp_path, KEYS, StudyRunOptions()))
    with pytest.raises(SetupError, match="Could not detect sbatch"):
        list(SlurmExecutor(0, {"cluster": "absent"}).run(tmp_path, KEYS, StudyRunOptions()))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SetupError, match="pip install"):
        list(SlurmExecutor().run(tmp_path, KEYS, StudyRunOptions()))
