"""Spreading calls over a Ray cluster: with a stand-in for Ray, and with Ray itself."""

import os
import signal
import sys
import types
from contextlib import closing

import pytest
from helpers.fake_ray import FakeRay
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError, SetupError
from nnsam.support.ray_cluster import WorkerLost, connected, free_processors, processors_per_worker, spread


def double(item):
    return 2 * item


def never(item):
    raise ValueError(f"no {item}\nand more lines")


def run(function, items, at_once=2, **resources):
    return [ending for ending in spread(function, items, at_once, tick=1.0, **resources) if ending]


def test_every_item_is_done_once_and_few_are_under_way(monkeypatch):
    ray = FakeRay(monkeypatch)
    assert sorted(run(double, range(5), num_cpus=3)) == [(item, 2 * item, None) for item in range(5)]
    assert ray.most == 2
    assert sorted(ray.attempts) == list(range(5))
    assert ray.options == {"max_retries": 2, "retry_exceptions": True, "num_cpus": 3}


def test_a_slow_item_does_not_hold_up_the_others(monkeypatch):
    FakeRay(monkeypatch, slow=lambda item: item == 0)
    assert [item for item, _, _ in run(double, range(5))] == [1, 2, 3, 4, 0]


def test_what_a_call_raises_is_given_back(monkeypatch):
    FakeRay(monkeypatch)
    ((item, result, error),) = run(never, [1])
    assert (item, result, type(error)) == (1, None, ValueError)
    assert str(error) == "no 1\nand more lines"


def test_a_worker_lost_for_good_is_an_error_of_its_own(monkeypatch):
    FakeRay(monkeypatch, lost=lambda item: item == 1)
    endings = {item: (result, error) for item, result, error in run(double, range(3))}
    assert endings[0] == (0, None)
    assert endings[2] == (4, None)
    assert isinstance(endings[1][1], WorkerLost)
    assert str(endings[1][1]) == "The worker died."


def test_nothing_ended_is_said(monkeypatch):
    ray = FakeRay(monkeypatch)
    ray.wait = lambda tasks, num_returns, timeout: ([], tasks)
    with closing(spread(double, range(3), 2, tick=1.0)) as endings:
        assert next(endings) is None
        assert next(endings) is None
    assert [force for _, force in ray.cancelled] == [True, True]


def test_closing_ends_what_is_under_way(monkeypatch):
    ray = FakeRay(monkeypatch)
    endings = spread(double, range(9), 3, tick=1.0)
    next(endings)
    endings.close()
    assert len(ray.cancelled) == 2  # the third has ended
    assert len(ray.attempts) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.dictionaries(st.integers(0, 9), st.integers(1, 4), max_size=5),
    items=st.integers(0, 10),
    at_once=st.integers(1, 4),
    slow=st.sets(st.integers(0, 9)),
)
def test_every_item_has_one_ending_whatever_happens(monkeypatch, bad, items, at_once, slow):
    left = dict(bad)

    def lost(item):
        left[item] = left.get(item, 0) - 1
        return left[item] >= 0

    ray = FakeRay(monkeypatch, lost=lost, slow=slow.__contains__)
    endings = run(double, range(items), at_once)
    assert sorted(item for item, _, _ in endings) == list(range(items))
    for item, result, error in endings:
        assert (error is None) == (bad.get(item, 0) <= 2)
        assert result == (2 * item if error is None else None)
    assert ray.most <= at_once


@pytest.mark.parametrize("workers", [0, -1])
def test_senseless_numbers_are_refused(monkeypatch, workers):
    FakeRay(monkeypatch)
    with pytest.raises(InputError, match="number of workers"), connected("local", workers):
        pass


def test_missing_ray_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match="Ray is not installed; run: pip install ray"), connected(None, None):
        pass


def test_a_cluster_that_does_not_answer_is_a_sentence_within_seconds():
    pytest.importorskip("ray")
    with pytest.raises(SetupError, match="no Ray cluster answers at 127"), connected("127.0.0.1:9", 2):
        pass
    with (
        pytest.raises(SetupError, match=r"cannot be used at nonsense.*ray start --head"),
        connected("nonsense", 2),
    ):
        pass


@given(st.lists(st.integers(0, 9), max_size=4), st.integers(1, 9))
def test_the_processors_are_shared_as_well_as_they_can_be(machines, workers):
    def fits(each):
        return sum(count // each for count in machines) >= workers

    if sum(machines) < workers:
        with pytest.raises(InputError, match="do not fit"):
            processors_per_worker(machines, workers)
    else:
        found = processors_per_worker(machines, workers)
        assert fits(found)
        assert not any(fits(more) for more in range(found + 1, 11))


class Trouble:
    """Returns how many calls this worker has had; some items end badly, always or once."""

    def __init__(self, folder):
        self.folder, self.calls = folder, 0

    def __call__(self, item):
        self.calls += 1
        (self.folder / f"{item}.{os.getpid()}.{self.calls}").touch()
        once = self.folder / f"{item} has ended badly"
        if item == "kills" or (item == "kills once" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "raises" or (item == "raises once" and not once.exists()):
            once.touch()
            raise ValueError(f"{item}\nand more")
        return self.calls


@pytest.mark.slow
def test_real_ray_repeats_what_a_lost_worker_had(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # not on the workers' path
    items = ["a", "kills once", "raises once", "kills", "b", "raises", "c", "d"]
    with connected("local", 2) as (workers, processors):
        assert workers == 2
        assert free_processors() >= 2 * processors
        endings = {item: ending for item, *ending in run(Trouble(tmp_path), items, workers, num_cpus=processors)}
    assert not ray.is_initialized()
    assert set(endings) == set(items)
    assert {item for item, (_, error) in endings.items() if error} == {"kills", "raises"}
    assert isinstance(endings["kills"][1], WorkerLost)
    assert str(endings["raises"][1]) == "raises\nand more"
    attempts = {item: len(list(tmp_path.glob(f"{item}.*"))) for item in items}
    assert attempts == {"a": 1, "kills once": 2, "raises once": 2, "kills": 3, "b": 1, "raises": 3, "c": 1, "d": 1}
    killed, again = (path.name.split(".")[1] for path in tmp_path.glob("kills once.*"))
    assert killed != again
    assert max(result for result, error in endings.values() if not error) > 1  # workers are used again


@pytest.mark.slow
def test_real_ray_gives_up_what_never_fits_into_memory(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # any task is one too many
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    monkeypatch.delenv("RAY_task_oom_retries", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    with connected("local", 1):
        ((_, _, error),) = run(sleep_long, ["a"], 1, num_cpus=1)
    assert isinstance(error, WorkerLost)
    assert "memory" in str(error)


def sleep_long(item):
    import time

    time.sleep(300)


@pytest.mark.slow
def test_real_workers_without_the_package_end_the_run(monkeypatch):
    pytest.importorskip("ray")
    absent = types.ModuleType("absent_package")
    exec("def function(item): return item", absent.__dict__)
    absent.function.__module__ = "absent_package"
    monkeypatch.setitem(sys.modules, "absent_package", absent)
    with (
        connected("local", 1),
        pytest.raises(SetupError, match=r"could not be started \(.*absent_package.*needs nnsam"),
    ):
        run(absent.function, [1], 1, num_cpus=1)
