"""Candidates in turn, and fresh processes."""

import os
import sys

import pytest

from nnsam.bench import measuring
from nnsam.bench.measuring import (
    Timing,
    comparison,
    find_speedup,
    peak_memory_mb,
    run_cold,
    segment_command,
    speedup,
    time_alternating,
)
from nnsam.errors import SetupError


@pytest.fixture
def clock(monkeypatch):
    """A clock that candidates set forward."""
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_every_round_runs_every_candidate_once_and_warm_up_does_not_count(clock):
    calls = []

    def candidate(name, seconds):
        def run(number):
            calls.append((number, name))
            clock(100 if number < 0 else seconds * (1 + number))

        return run

    def prepare(number):
        clock(1000)  # never counts
        return number

    candidates = {"a": candidate("a", 1), "b": candidate("b", 3)}
    timings = time_alternating(candidates, 12, warmup=2, prepare=prepare)
    assert timings["a"].seconds == tuple(1 + number for number in range(12))
    assert timings["b"].seconds == tuple(3 * (1 + number) for number in range(12))
    assert [number for number, _ in calls] == [number for number in range(-2, 12) for _ in "ab"]
    orders = {tuple(name for number, name in calls if number == chosen) for chosen in range(12)}
    assert orders == {("a", "b"), ("b", "a")}  # neither always goes first


def test_speed_ups_are_of_the_same_round():
    # The machine got ten times slower in the middle; every round still says 2, but one 4.
    slow, fast = Timing((2.0, 2.0, 20.0, 40.0)), Timing((1.0, 1.0, 10.0, 10.0))
    found = speedup(slow, fast)
    assert found == {"speedup": 2, "speedup_low": 2, "speedup_high": 4, "speedup_of_minima": 2}
    assert slow.median == 11
    assert (slow.minimum, slow.maximum) == (2, 40)


def test_comparisons_are_found_by_name():
    entry = comparison("thing", {"old": Timing((4.0,)), "new": Timing((1.0,))}, "old")
    assert [row["speedup"] for row in entry["candidates"]] == [1, 4]
    assert find_speedup([entry], "thing", "new") == 4
    assert find_speedup([entry], "thing", "newer") is None
    assert find_speedup([entry], "other", "new") is None


WRITE = """
import os, pathlib, sys, time
held = b"x" * int(float(sys.argv[2]) * 2**20)
draft = pathlib.Path(sys.argv[1] + ".draft")
draft.write_text(os.environ.get("NNSAM_TEST", ""))
draft.rename(sys.argv[1])
time.sleep(float(sys.argv[3]))
"""


def write(output, megabytes=0.0, after=0.0):
    return [sys.executable, "-c", WRITE, str(output), str(megabytes), str(after)]


def test_time_ends_with_the_file_and_not_with_the_process(tmp_path):
    output = tmp_path / "mask.png"
    output.write_text("old")
    run = run_cold(write(output, after=0.5), output, {"NNSAM_TEST": "some"})
    assert output.read_text() == "some"
    assert 0 < run.seconds <= run.process_seconds - 0.4


def test_memory_is_the_process_own(tmp_path):
    held = bytearray(os.urandom(1000)) * 150_000  # this process has 150 MB; the child must not inherit them
    small = run_cold(write(tmp_path / "a", after=0.1), tmp_path / "a")
    if small.peak_mb is None:
        pytest.skip("this system does not tell")
    large = run_cold(write(tmp_path / "b", 120, after=0.1), tmp_path / "b")
    assert small.peak_mb < 100 < large.peak_mb < 200
    assert peak_memory_mb(os.getpid()) > 150
    assert len(held) == 150_000_000


def test_a_process_that_is_gone_has_no_peak():
    assert peak_memory_mb(2**22 + 1) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('nnsam segment: no such bundle')", "failed: nnsam segment: no such bundle"),
        ("pass", "exit code 0, no output"),
    ],
)
def test_a_failing_process_is_one_sentence(tmp_path, code, words):
    (tmp_path / "mask.png").write_text("an old one must not be taken for the new one")
    with pytest.raises(SetupError, match=words):
        run_cold([sys.executable, "-c", code], tmp_path / "mask.png")


def test_the_command_is_the_users(tmp_path):
    command = segment_command(tmp_path, tmp_path / "i.png", tmp_path / "b.json", tmp_path / "o.png", ["--x"])
    assert command[1:5] == ["-m", "nnsam", "segment", str(tmp_path)]
    assert command[-1] == "--x"
