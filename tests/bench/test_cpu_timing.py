import pytest

from nnsam.bench.cpu import timing as cpu_timing
from nnsam.bench.cpu.timing import Timing, comparison, find_speedup, speedup, time_alternating


@pytest.fixture
def clock(monkeypatch):
    """A clock that candidates set forward."""
    now = [0.0]
    monkeypatch.setattr(cpu_timing.time, "perf_counter", lambda: now[0])

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
