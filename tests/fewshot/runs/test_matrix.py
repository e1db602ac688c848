"""Method x size x seed: what is chosen, in which order, and what is checked before anything runs."""

from dataclasses import replace

import pytest
from helpers.fake_study import FakeStudy

from nnsam.errors import InputError
from nnsam.fewshot.runs.execution import execute_run
from nnsam.fewshot.runs.matrix import RunMatrix
from nnsam.fewshot.runs.options import Budget, StudyRunOptions
from nnsam.fewshot.runs.state import RunKey, find_runs
from nnsam.fewshot.runs.worker import RunEnding
from nnsam.fewshot.study.protocol import Protocol

OPTIONS = StudyRunOptions(Budget(1, 2), threads=1)
METHODS = ["nnUNetTrainer", "nnSAMLevelSetOnlyTrainer"]


class InThisProcess:
    """An executor."""

    def run(self, experiment, keys, options):
        for key in keys:
            yield None
            yield RunEnding(key, execute_run(experiment, key, options))


@pytest.fixture
def study(tmp_path, monkeypatch):
    return FakeStudy(tmp_path, monkeypatch)


def test_seed_by_seed(study):
    matrix = RunMatrix(study.experiment, METHODS, OPTIONS)
    assert matrix.keys == [RunKey(method, 2, seed) for seed in (0, 1) for method in METHODS]
    assert matrix.pending == matrix.keys


def test_chosen_sizes_and_seeds(study):
    assert RunMatrix(study.experiment, METHODS[:1], OPTIONS, [2], [1]).keys == [RunKey(METHODS[0], 2, 1)]
    with pytest.raises(InputError, match="the study has the sizes 2, not 8"):
        RunMatrix(study.experiment, METHODS, OPTIONS, [2, 8])
    with pytest.raises(InputError, match="the study has the seeds 0, 1, not 5"):
        RunMatrix(study.experiment, METHODS, OPTIONS, None, [5])


def test_failed_and_done_runs_are_not_repeated(study, monkeypatch):
    monkeypatch.setenv("FAKE_CRASH", "LevelSet")
    matrix = RunMatrix(study.experiment, METHODS, OPTIONS, None, [0])
    outcomes = [outcome for outcome in matrix.run(InThisProcess()) if outcome]
    # A run that fails does not keep others from running.
    assert [outcome.ending for outcome in outcomes] == ["done", "failed"]
    again = RunMatrix(study.experiment, METHODS, OPTIONS, None, [0])
    assert again.pending == []
    assert [again.ending(key) for key in again.keys] == ["done", "failed"]
    assert list(again.run(InThisProcess())) == []
    retry = RunMatrix(study.experiment, METHODS, replace(OPTIONS, retry_failed=True), None, [0])
    assert retry.pending == [RunKey(METHODS[1], 2, 0)]
    more = RunMatrix(study.experiment, METHODS, replace(OPTIONS, score_validation=True), None, [0])
    assert more.pending == [RunKey(METHODS[0], 2, 0)]


def test_other_budget_is_refused_before_anything_runs(study):
    execute_run(study.experiment, RunKey(METHODS[0], 2, 1), OPTIONS)
    journal = study.journal()
    with pytest.raises(InputError, match=r"n2_s1 holds a run with epochs 1, and epochs 7 was asked for"):
        RunMatrix(study.experiment, METHODS, replace(OPTIONS, budget=Budget(7, 2)))
    assert study.journal() == journal


def test_unknown_method_and_no_study(study, tmp_path):
    with pytest.raises(InputError, match="known are nnUNetTrainer"):
        RunMatrix(study.experiment, ["no-such-net"], OPTIONS)
    with pytest.raises(InputError, match="nnsam fewshot prepare"):
        RunMatrix(tmp_path, METHODS, OPTIONS)


def test_found_runs(study):
    protocol = Protocol.read(study.experiment)
    assert find_runs(study.experiment, protocol) == {}
    key = RunKey(METHODS[0], 2, 1)
    execute_run(study.experiment, key, OPTIONS)
    assert list(find_runs(study.experiment, protocol)) == [key]
    key.folder(study.experiment).rename(key.folder(study.experiment).with_name("n3_s1"))
    with pytest.raises(InputError, match="is no subset of the study"):
        find_runs(study.experiment, protocol)
