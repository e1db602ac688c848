"""Overlapping stages: order, bounded memory, ends of all kinds."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.inference.folders.pipeline import RunCancelled, run_jobs


class Line:
    """Counts the jobs between start of reading and end of writing."""

    def __init__(self):
        self.lock = threading.Lock()
        self.alive = self.most = 0
        self.events = []

    def note(self, number, stage, change=0):
        with self.lock:
            self.alive += change
            self.most = max(self.most, self.alive)
            self.events.append((number, stage, threading.current_thread().name))


class FakeJob:
    def __init__(self, line, number, pause=0.0, fail=None):
        self.line, self.number, self.pause, self.fail = line, number, pause, fail or {}

    def _stage(self, stage, change=0):
        time.sleep(self.pause)
        self.line.note(self.number, stage, change)
        if stage in self.fail:
            raise self.fail[stage]

    def read(self):
        self._stage("read", 1)

    def infer(self):
        self._stage("infer")

    def write(self):
        self._stage("write", -1)


def threads_of_runs():
    return [thread for thread in threading.enumerate() if thread.name.startswith("nnsam-")]


@given(st.integers(0, 12), st.integers(1, 5))
@settings(max_examples=30)
def test_every_job_goes_through_all_stages_in_order_and_few_are_in_memory(count, at_once):
    line, done = Line(), []
    assert run_jobs((FakeJob(line, number) for number in range(count)), done.append, at_once=at_once) is True
    assert [job.number for job in done] == list(range(count))
    for stage in ("read", "infer", "write"):
        assert [number for number, name, _ in line.events if name == stage] == list(range(count))
    assert line.most <= at_once
    assert not threads_of_runs()


def test_stages_run_where_they_should_and_overlap():
    line = Line()
    run_jobs([FakeJob(line, number, 0.02) for number in range(4)], lambda job: None)
    main = threading.main_thread().name
    assert {(stage, name) for _, stage, name in line.events} == {
        ("read", "nnsam-read"),
        ("infer", main),
        ("write", "nnsam-write"),
    }
    order = [(number, stage) for number, stage, _ in line.events]
    assert order.index((1, "read")) < order.index((0, "write"))


def test_one_at_a_time_overlaps_nothing():
    line = Line()
    run_jobs([FakeJob(line, number, 0.005) for number in range(3)], lambda job: None, at_once=1)
    assert [event[:2] for event in line.events] == [
        (number, stage) for number in range(3) for stage in ("read", "infer", "write")
    ]


def test_jobs_are_taken_only_when_there_is_room():
    taken = []

    def jobs():
        for number in range(50):
            taken.append(number)
            yield FakeJob(Line(), number, fail={"infer": KeyboardInterrupt()} if number == 0 else None)

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(), lambda job: None, at_once=4)
    assert len(taken) <= 5


@pytest.mark.parametrize("stage", ["read", "infer", "write"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_ends_the_run_and_leaves_no_thread(stage, error):
    line, done = Line(), []
    jobs = [FakeJob(line, number, 0.002, {stage: error("2")} if number == 2 else None) for number in range(20)]
    with pytest.raises(error):
        run_jobs(jobs, done.append)
    assert not threads_of_runs()
    assert [job.number for job in done] in ([0], [0, 1], [0, 1, 2][: 2 if stage == "write" else 3], [])
    assert not any(number > 6 for number, _, _ in line.events)


def test_an_error_of_the_callback_ends_the_run():
    def done(job):
        raise ValueError("no room on the disk")

    with pytest.raises(ValueError, match="no room"):
        run_jobs([FakeJob(Line(), number) for number in range(20)], done)
    assert not threads_of_runs()


def test_an_error_of_the_source_of_jobs_ends_the_run():
    def jobs():
        yield FakeJob(Line(), 0)
        raise OSError("folder is gone")

    with pytest.raises(OSError, match="is gone"):
        run_jobs(jobs(), lambda job: None)
    assert not threads_of_runs()


def test_cancelling_between_jobs():
    line, done = Line(), []
    asked = iter([False, False, False, True])
    finished = run_jobs([FakeJob(line, number) for number in range(30)], done.append, cancelled=lambda: next(asked))
    assert finished is False
    assert len(done) <= 3
    assert not threads_of_runs()


def test_cancelling_within_a_job():
    done = []
    jobs = [FakeJob(Line(), number, fail={"infer": RunCancelled()} if number == 1 else None) for number in range(9)]
    assert run_jobs(jobs, done.append) is False
    assert {job.number for job in done} <= {0}
    assert not threads_of_runs()


def test_the_job_being_written_is_finished():
    written, started = [], threading.Event()

    class Slow(FakeJob):
        def infer(self):
            if self.number == 1:
                assert started.wait(5)
                raise KeyboardInterrupt

        def write(self):
            started.set()
            time.sleep(0.2)
            written.append(self.number)

    with pytest.raises(KeyboardInterrupt):
        run_jobs([Slow(Line(), 0), Slow(Line(), 1)], lambda job: None)
    assert written == [0]
