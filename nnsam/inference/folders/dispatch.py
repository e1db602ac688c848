"""Spreads cases over workers that may be lost: what is done when, without knowing what a worker is.

Each worker has one case at a time and gets the next one when it is done, so that slow cases and slow machines hold
nobody up. :mod:`nnsam.inference.folders.ray_run` supplies workers on a Ray cluster.
"""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from nnsam.errors import InputError, NnsamError, SetupError

Case = TypeVar("Case")


class WorkerLost(Exception):
    """A worker has ended before its task; says how, in one sentence."""


class Cluster(Protocol):
    """Where workers come from. Workers and tasks are opaque and hashable."""

    def start(self) -> tuple[Any, Any]:
        """Starts a worker; returns it and the task in which it opens the model."""

    def submit(self, worker: Any, case: Any) -> Any:
        """Gives a worker a case; returns the task."""

    def wait(self, tasks: Sequence[Any]) -> Any:
        """Returns one of the tasks, which has ended; blocks until there is one."""

    def result(self, task: Any) -> Any:
        """Returns what an ended task returned.

        Raises:
            NnsamError: the user's to mend, and the same on every worker.
            WorkerLost: the worker is gone.
            Exception: anything else.
        """

    def stop(self, worker: Any) -> None:
        """Ends a worker at once, whatever it is doing; one that has ended already is no error."""


@dataclass(frozen=True)
class Outcome(Generic[Case]):
    """How a case ended.

    Attributes:
        case: as it was given.
        result: what the worker returned; None where the case failed.
        error: one sentence; empty where it was done.
        attempts: how often it was started.
    """

    case: Case
    result: Any
    error: str
    attempts: int


@dataclass
class _Job(Generic[Case]):
    case: Case
    attempts: int = 0


class _Crew(Generic[Case]):
    """The workers and what they are doing.

    Attributes:
        running: task -> the worker and its case, which is None while it opens the model.
        idle: workers that have opened the model and have nothing to do.
        lost: workers in a row that were lost before they had opened the model.
    """

    def __init__(self, cluster: Cluster, size: int):
        self.cluster = cluster
        self.size = size
        self.running: dict[Any, tuple[Any, _Job[Case] | None]] = {}
        self.idle: list[Any] = []
        self.lost = 0

    def give(self, queue: deque[_Job[Case]]) -> None:
        """Gives cases to idle workers and starts workers for what is left over."""
        while queue and self.idle:
            worker, job = self.idle.pop(), queue.popleft()
            job.attempts += 1
            self.running[self.cluster.submit(worker, job.case)] = (worker, job)
        opening = sum(job is None for _, job in self.running.values())
        for _ in range(min(self.size - len(self.running), len(queue) - opening)):
            worker, task = self.cluster.start()
            self.running[task] = (worker, None)

    def stop(self) -> None:
        for worker in [*self.idle, *(worker for worker, _ in self.running.values())]:
            self.cluster.stop(worker)


def spread(
    cases: Sequence[Case], cluster: Cluster, workers: int, retries: int = 2
) -> Generator[Outcome[Case], None, None]:
    """Yields the outcome of every case, in the order in which they end.

    A case that fails through anything but the user's input is tried again after the other cases, and the worker on
    which it failed is replaced: whatever ailed it does not meet the next case. Closing the iterator stops all workers.

    Args:
        cases: what the workers are given.
        cluster: starts the workers.
        workers: at most so many at the same time; fewer where there are fewer cases.
        retries: how often a failed case is tried again.

    Raises:
        NnsamError: a worker cannot open the model, for a reason that it states.
        SetupError: `1 + retries` workers in a row were lost while they opened the model, and no other one works.
    """
    for name, value, least in (("workers", workers, 1), ("retries", retries, 0)):
        if value < least:
            raise InputError(f"the number of {name} is {value}; expected at least {least}")
    queue = deque(_Job(case) for case in cases)
    crew: _Crew[Case] = _Crew(cluster, workers)
    try:
        crew.give(queue)
        while crew.running:
            task = cluster.wait(list(crew.running))
            worker, job = crew.running.pop(task)
            if job is None:
                _has_opened(crew, worker, task, retries)
            elif (outcome := _has_ended(crew, worker, job, task, retries)) is not None:
                yield outcome
            else:
                queue.append(job)
            crew.give(queue)
    finally:
        crew.stop()


def _has_opened(crew: _Crew, worker: Any, task: Any, retries: int) -> None:
    """Takes a worker that has opened the model into the crew."""
    try:
        crew.cluster.result(task)
    except NnsamError:
        crew.cluster.stop(worker)
        raise
    except Exception as error:
        crew.cluster.stop(worker)
        crew.lost += 1
        if crew.lost > retries:
            if not (crew.running or crew.idle):
                raise SetupError(
                    f"{crew.lost} workers in a row were lost while they opened the model; the last one: "
                    f"{_sentence(error)}"
                ) from None
            crew.size -= 1  # the others do the work
        return
    crew.lost = 0
    crew.idle.append(worker)


def _has_ended(crew: _Crew, worker: Any, job: _Job[Case], task: Any, retries: int) -> Outcome[Case] | None:
    """Returns the outcome of a case, None where it has to be tried again."""
    try:
        result = crew.cluster.result(task)
    except NnsamError as error:
        crew.idle.append(worker)
        return Outcome(job.case, None, str(error), job.attempts)
    except Exception as error:
        crew.cluster.stop(worker)
        if job.attempts <= retries:
            return None
        tried = "once" if job.attempts == 1 else f"{job.attempts} times"
        return Outcome(job.case, None, f"failed {tried}; the last time: {_sentence(error)}", job.attempts)
    crew.idle.append(worker)
    return Outcome(job.case, result, "", job.attempts)


def _sentence(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    if isinstance(error, WorkerLost):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
