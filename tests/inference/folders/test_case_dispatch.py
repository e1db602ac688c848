"""Spreading cases over workers, against a cluster that behaves as a script says."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError, SetupError
from nnsam.inference.folders.dispatch import spread

DONE, FAILS, DIES, REFUSES = "done", "fails", "dies", "refuses"


class WorkerDied(Exception):
    pass


class FakeCluster:
    """Ends the oldest task first; workers and cases do what their scripts say.

    Args:
        scripts: case -> how each of its attempts ends; then, and for all others, DONE.
        opening: how the opening of each worker ends, in order; then DONE.
        slow: cases that end only when nothing else is going on.
    """

    def __init__(self, scripts=None, opening=(), slow=()):
        self.scripts = {case: list(script) for case, script in (scripts or {}).items()}
        self.opening = list(opening)
        self.slow = set(slow)
        self.numbers = itertools.count()
        self.alive, self.busy, self.tasks = set(), {}, {}
        self.attempts, self.log, self.most = Counter(), [], 0

    def start(self):
        worker = next(self.numbers)
        self.alive.add(worker)
        self.most = max(self.most, len(self.alive))
        return worker, self._task(worker, None, self.opening.pop(0) if self.opening else DONE)

    def submit(self, worker, case):
        assert worker in self.alive
        assert worker not in self.busy.values(), "a worker has one case at a time"
        self.attempts[case] += 1
        self.log.append((worker, case))
        script = self.scripts.get(case)
        return self._task(worker, case, script.pop(0) if script else DONE)

    def _task(self, worker, case, end):
        task = f"task {next(self.numbers)}"
        self.tasks[task], self.busy[task] = (case, end), worker
        return task

    def wait(self, tasks):
        assert set(tasks) == set(self.busy)
        task = min(tasks, key=lambda task: self.tasks[task][0] in self.slow)
        worker = self.busy.pop(task)
        if self.tasks[task][1] == DIES:
            self.alive.discard(worker)
        return task

    def result(self, task):
        case, end = self.tasks[task]
        if end == REFUSES:
            raise InputError(f"{case} is no image")
        if end == FAILS:
            raise RuntimeError("out of luck\nand more lines")
        if end == DIES:
            raise WorkerDied("")
        return f"result of {case}"

    def stop(self, worker):
        self.alive.discard(worker)


def run(cluster, cases, workers=2, retries=2):
    return list(spread(cases, cluster, workers, retries))


def test_every_case_is_done_once_and_the_workers_are_stopped():
    cluster = FakeCluster()
    outcomes = run(cluster, "abcde")
    assert sorted((o.case, o.result, o.error, o.attempts) for o in outcomes) == [
        (case, f"result of {case}", "", 1) for case in "abcde"
    ]
    assert cluster.most == 2
    assert cluster.alive == set()


def test_no_more_workers_than_cases_are_started():
    cluster = FakeCluster()
    run(cluster, "ab", workers=8)
    assert cluster.most == 2
    cluster = FakeCluster()
    assert run(cluster, "") == []
    assert cluster.most == 0


def test_a_slow_case_does_not_hold_up_the_others():
    cluster = FakeCluster(slow="a")
    outcomes = run(cluster, "abcde")
    assert [outcome.case for outcome in outcomes] == ["b", "c", "d", "e", "a"]
    workers = {worker for worker, case in cluster.log if case != "a"}
    assert len(workers) == 1


@pytest.mark.parametrize("end", [FAILS, DIES])
def test_a_case_that_fails_once_is_done_by_another_worker(end):
    cluster = FakeCluster({"b": [end]})
    outcomes = {outcome.case: outcome for outcome in run(cluster, "abcd")}
    assert outcomes["b"].result == "result of b"
    assert outcomes["b"].attempts == 2
    first, second = (worker for worker, case in cluster.log if case == "b")
    assert first != second
    assert not any(worker == first for worker, _ in cluster.log[cluster.log.index((first, "b")) + 1 :])
    assert all(not outcome.error for outcome in outcomes.values())


def test_a_case_that_fails_always_is_given_up_and_the_others_are_done():
    cluster = FakeCluster({"b": [FAILS] * 9})
    outcomes = {outcome.case: outcome for outcome in run(cluster, "abcd", retries=2)}
    assert cluster.attempts["b"] == outcomes["b"].attempts == 3
    assert outcomes["b"].error == "failed 3 times; the last time: RuntimeError: out of luck"
    assert [case for case, outcome in outcomes.items() if not outcome.error] == ["a", "c", "d"]


def test_without_retries_a_case_fails_at_once():
    (outcome,) = run(FakeCluster({"a": [DIES]}), "a", retries=0)
    assert outcome.error == "failed once; the last time: WorkerDied"


def test_what_the_user_has_to_mend_is_not_tried_again_and_costs_no_worker():
    cluster = FakeCluster({"b": [REFUSES]})
    outcomes = {outcome.case: outcome for outcome in run(cluster, "abc", workers=1)}
    assert outcomes["b"].error == "b is no image"
    assert cluster.attempts["b"] == 1
    assert len({worker for worker, _ in cluster.log}) == 1


def test_a_model_that_cannot_be_opened_ends_the_run_with_its_sentence():
    cluster = FakeCluster(opening=[DONE, REFUSES])
    with pytest.raises(InputError, match="is no image"):
        run(cluster, "abc")
    assert cluster.alive == set()


def test_workers_that_are_lost_while_opening_are_replaced():
    cluster = FakeCluster(opening=[DIES, DIES, DONE])
    assert all(not outcome.error for outcome in run(cluster, "abc", workers=1))
    assert cluster.alive == set()


def test_workers_that_are_always_lost_while_opening_end_the_run():
    with pytest.raises(SetupError, match=r"4 workers in a row were lost while they opened the model.*WorkerDied"):
        run(FakeCluster(opening=[DIES] * 9), "abc", workers=2, retries=2)


def test_one_worker_that_works_is_enough():
    cluster = FakeCluster(opening=[DONE, *[DIES] * 99])
    outcomes = run(cluster, "abcdefghij", workers=2, retries=1)
    assert [outcome.error for outcome in outcomes] == [""] * 10


def test_a_worker_lost_when_the_others_have_done_everything_is_no_error():
    cluster = FakeCluster(opening=[DONE, DIES], slow=[None])
    assert [outcome.error for outcome in run(cluster, "ab", retries=0)] == ["", ""]


def test_closing_the_iterator_stops_the_workers():
    cluster = FakeCluster()
    outcomes = spread("abcdef", cluster, 2)
    next(outcomes)
    assert cluster.alive
    outcomes.close()
    assert cluster.alive == set()


@pytest.mark.parametrize(("workers", "retries", "word"), [(0, 2, "workers"), (2, -1, "retries")])
def test_senseless_numbers_are_refused(workers, retries, word):
    with pytest.raises(InputError, match=f"number of {word}"):
        run(FakeCluster(), "a", workers, retries)


@given(
    scripts=st.dictionaries(st.integers(0, 9), st.lists(st.sampled_from([DONE, FAILS, DIES, REFUSES]), max_size=5)),
    cases=st.integers(0, 10),
    workers=st.integers(1, 4),
    retries=st.integers(0, 3),
    slow=st.sets(st.integers(0, 9)),
)
def test_every_case_has_one_outcome_whatever_happens(scripts, cases, workers, retries, slow):
    cluster = FakeCluster(scripts, slow=slow)
    outcomes = run(cluster, range(cases), workers, retries)
    assert sorted(outcome.case for outcome in outcomes) == list(range(cases))
    for outcome in outcomes:
        script = [*scripts.get(outcome.case, []), DONE]
        good = next(place for place, end in enumerate(script) if end in (DONE, REFUSES))
        expected = "failed" if good > retries else "is no image" if script[good] == REFUSES else ""
        assert expected in outcome.error
        assert bool(expected) == bool(outcome.error)
        assert outcome.attempts == min(good, retries) + 1 == cluster.attempts[outcome.case]
    assert cluster.alive == set()
    assert cluster.most <= workers
