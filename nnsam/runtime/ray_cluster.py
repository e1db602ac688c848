"""Workers on a Ray cluster, for :mod:`nnsam.runtime.case_dispatch`: one is started here, or one that runs is joined."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nnsam.errors import InputError, NnsamError, SetupError
from nnsam.runtime.case_dispatch import WorkerLost

# One worker for so many processors unless the user says otherwise: networks scale well up to here.
_PROCESSORS_PER_WORKER = 8
# Ray keeps 30 % of the memory for large objects otherwise; only file names and digests travel here.
_OBJECT_STORE_BYTES = 2**27
_CONNECT_SECONDS = 5.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_PATIENCE_SECONDS = 60.0

# Given the number of threads, opens the model and returns what computes a case.
Opener = Callable[[int], Callable[[Any], Any]]


class RayCluster:
    """Starts workers on Ray; see :class:`nnsam.runtime.case_dispatch.Cluster`.

    Args:
        opener: called in each worker; it and what it makes of a case must be picklable.
        threads: processors of each worker.
        note: told once when no processors become free.
    """

    def __init__(self, opener: Opener, threads: int, note: Callable[[str], None] = lambda text: None):
        import ray

        self._ray: Any = ray
        self._opener, self._threads, self._note = opener, threads, note
        # A lost worker is replaced by the caller, not by Ray, which would repeat its case on the spot.
        options: Any = {"num_cpus": threads, "max_restarts": 0, "max_task_retries": 0}
        self._worker = self._ray.remote(**options)(_Worker)

    def start(self) -> tuple[Any, Any]:
        """Starts a worker; returns it and the task in which it opens the model."""
        worker = self._worker.remote()
        return worker, worker.open.remote(self._opener, self._threads)

    def submit(self, worker: Any, case: Any) -> Any:
        """Gives a worker a case; returns the task."""
        return worker.compute.remote(case)

    def wait(self, tasks: Sequence[Any]) -> Any:
        """Returns a task that has ended."""
        ended, _ = self._ray.wait(list(tasks), num_returns=1, timeout=_PATIENCE_SECONDS)
        if not ended:
            if not self._ray.available_resources().get("CPU", 0) >= self._threads:
                self._note(f"waiting; the Ray cluster may have no {self._threads} free processors for a worker")
            ended, _ = self._ray.wait(list(tasks), num_returns=1)
        return ended[0]

    def result(self, task: Any) -> Any:
        """Returns what an ended task returned; raises what it raised, `WorkerLost` where the worker is gone."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(task)
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except exceptions.RayError as error:
            raise WorkerLost(_how_it_was_lost(str(error))) from None

    def stop(self, worker: Any) -> None:
        """Ends a worker at once."""
        self._ray.kill(worker, no_restart=True)


class _Worker:
    """Runs in a process of its own, which Ray starts."""

    def open(self, opener: Opener, threads: int) -> None:
        self._compute = opener(threads)

    def compute(self, case: Any) -> Any:
        return self._compute(case)


@contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[tuple[int, int]]:
    """Starts Ray on this machine, or joins a cluster; what was started is ended with the block, Ctrl-C included.

    A cluster that was joined goes on, and so does a connection that this process had before.

    Args:
        address: "local" for a new cluster on this machine, "auto" for the one that runs on it, or host:port; None for
            that in the environment variable RAY_ADDRESS, or else the one that runs here, or else a new one.
        workers: None for one per 8 processors, at least one on each machine.

    Yields:
        Number of workers and processors of each.

    Raises:
        SetupError: Ray is absent, or there is no such cluster.
        InputError: more workers than the cluster has processors.
    """
    ray = _import_ray()
    if workers is not None and workers < 1:
        raise InputError(f"the number of workers is {workers}; expected at least 1")
    mine = not ray.is_initialized()
    try:
        if mine:
            _connect(ray, address or os.environ.get("RAY_ADDRESS"), workers)
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        workers = workers or sum(max(1, count // _PROCESSORS_PER_WORKER) for count in machines if count)
        yield workers, processors_per_worker(machines, workers)
    finally:
        if mine:
            ray.shutdown()


def processors_per_worker(machines: Sequence[int], workers: int) -> int:
    """Returns the most processors that each worker can have if all are to run at the same time.

    Args:
        machines: number of processors of each.
        workers: how many are to fit; each must find its processors on one machine.

    Raises:
        InputError: not even one for each.

    Example:
        >>> processors_per_worker([8, 4], 3)
        4
        >>> processors_per_worker([8, 3], 3)
        3
    """
    for each in range(max(machines, default=0), 0, -1):
        if sum(count // each for count in machines) >= workers:
            return each
    raise InputError(
        f"{workers} workers do not fit on a Ray cluster of {sum(machines)} processors; ask for fewer workers"
    )


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise SetupError(
            'Ray is not installed; install it with: pip install "nnsam[ray]", or with `pip install ray` beside an '
            "installation without PyTorch"
        ) from None
    return ray


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    try:
        if address is None:
            try:
                ray.init(address="auto", **_QUIET)
            except ConnectionError:  # none runs here
                address = "local"
        if address == "local":
            # Ray reports its use to its makers unless told not to.
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            size = {"num_cpus": max(_processors(), workers or 1), "object_store_memory": _OBJECT_STORE_BYTES}
            ray.init(address="local", include_dashboard=False, **size, **_QUIET)
        elif address is not None:
            _check_reachable(address)
            ray.init(address=address, **_QUIET)
    except NnsamError:
        raise
    except Exception as error:  # Ray has no common class for what can go wrong here
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SetupError(
            f"Ray cannot be used at {address or 'auto'}: {reason[0]}; start a cluster with `ray start --head`, or use "
            "`--ray local`"
        ) from None


def _processors() -> int:
    """How many this process may use; a container or `taskset` may have taken some away."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto" or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise SetupError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with `ray start --head`, or "
            "use `--ray local`"
        ) from None


def _how_it_was_lost(text: str) -> str:
    """One sentence of Ray's many lines."""
    lines = text.strip().splitlines() or [""]
    if "creation task" in lines[0]:
        return f"a worker could not be started ({lines[-1].strip()}); every machine of the cluster needs nnsam"
    return "its worker was lost (killed, out of memory, or its machine is gone)"
