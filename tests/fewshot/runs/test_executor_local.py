"""Division of processors and GPUs, and processes that end with their generator."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.fewshot.runs.executors import local
from nnsam.fewshot.runs.executors.local import LocalExecutor, Slot, make_slots, visible_gpus
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import RunKey
from nnsam.fewshot.runs.worker import RunEnding
from nnsam.support.concurrency import start_guarded

KEYS = [RunKey("nnUNetTrainer", 4, seed) for seed in range(5)]


@given(jobs=st.integers(1, 9), threads=st.integers(0, 9), cores=st.lists(st.integers(0, 99), min_size=1, unique=True))
def test_slots_never_share_a_core_they_are_pinned_to(jobs, threads, cores):
    slots = make_slots(jobs, threads, [], cores)
    pinned = [core for slot in slots for core in slot.cores]
    assert len(slots) == jobs
    assert len(pinned) == len(set(pinned))
    assert set(pinned) <= set(cores)
    assert all(len(slot.cores) in (0, slot.threads) for slot in slots)
    if threads == 0 and jobs <= len(cores) and jobs > 1:
        assert pinned


def test_one_job_has_all_processors_and_stays_free():
    assert make_slots(1, 0, [], [0, 1, 2]) == [Slot(3)]
    assert make_slots(2, 0, [], [4, 7]) == [Slot(1, (4,)), Slot(1, (7,))]
    # Too many for pinning: the system decides.
    assert make_slots(3, 2, [], [0, 1]) == [Slot(2)] * 3
    assert [slot.gpu for slot in make_slots(3, 1, ["0", "3"], [0])] == ["0", "3", "0"]
    with pytest.raises(InputError, match="jobs"):
        make_slots(0, 1, [], [0])


def test_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5")
    assert visible_gpus(1) == ["4"]
    with pytest.raises(InputError, match="3 GPUs were asked for"):
        visible_gpus(3)
    with pytest.raises(InputError, match="at least 1"):
        visible_gpus(0)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Replaces the runs' processes by ones that take `seconds[seed]` and exit with `codes[seed]`."""

    class Started:
        seconds, codes, calls, processes = {}, {}, [], []

    record = Started()
    record.seconds, record.codes, record.calls, record.processes = {}, {}, [], []

    def start(experiment, key, options, environment):
        record.calls.append((key, options, environment))
        seconds, exit_code = record.seconds.get(key.seed, 0), record.codes.get(key.seed, 0)
        code = f"import time, sys; time.sleep({seconds}); sys.exit({exit_code})"
        with open(tmp_path / "log", "ab") as log:
            record.processes.append(start_guarded([sys.executable, "-c", code], log))
        return record.processes[-1]

    monkeypatch.setattr(local, "start_worker", start)
    monkeypatch.setattr(local, "available_cores", lambda: [0, 1])
    return record


def test_outcomes_and_slots(started, tmp_path):
    started.codes = {1: 3, 2: 4, 3: 7}
    outcomes = [o for o in LocalExecutor(jobs=2).run(tmp_path, KEYS, StudyRunOptions()) if o is not None]
    endings = {outcome.key.seed: outcome.ending for outcome in outcomes}
    assert endings == {0: "done", 1: "failed", 2: "busy", 3: "failed", 4: "done"}
    assert next(o for o in outcomes if o.key.seed == 3).sentence.startswith("its process ended with exit code 7")
    assert [key for key, _, _ in started.calls] == KEYS
    assert {options.cores for _, options, _ in started.calls} == {(0,), (1,)}
    assert {options.threads for _, options, _ in started.calls} == {1}


def test_no_more_than_jobs_at_once(started, tmp_path):
    started.seconds = dict.fromkeys(range(5), 0.5)
    most = 0
    for _ in LocalExecutor(jobs=2).run(tmp_path, KEYS, StudyRunOptions()):
        most = max(most, sum(process.poll() is None for process in started.processes))
    assert most <= 2


def test_closing_ends_the_processes(started, tmp_path):
    started.seconds = dict.fromkeys(range(5), 300)
    outcomes = LocalExecutor(jobs=2).run(tmp_path, KEYS, StudyRunOptions())
    assert next(outcomes) is None
    outcomes.close()
    assert [process.poll() is None for process in started.processes] == [False, False]


def test_gpu_of_each_slot(started, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    outcomes = list(LocalExecutor(gpus=2).run(tmp_path, KEYS[:2], StudyRunOptions(device="cuda")))
    assert [environment["CUDA_VISIBLE_DEVICES"] for _, _, environment in started.calls] == ["2", "5"]
    assert RunEnding(KEYS[0], "done") in outcomes


def test_waiting_does_not_use_the_processor(started, tmp_path):
    started.seconds = {0: 2}
    before = time.process_time()
    list(LocalExecutor().run(tmp_path, KEYS[:1], StudyRunOptions()))
    assert time.process_time() - before < 0.5
