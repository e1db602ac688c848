"""Work for the machines of a Ray cluster, which is joined or started; Ray itself repeats what a lost worker had."""

import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from nnsam.errors import InputError, NnsamError, SetupError

# How often a call is repeated whose worker is lost, or that raises.
RETRIES = 2
# One worker for so many processors unless the user says otherwise: networks scale well up to here.
_PROCESSORS_PER_WORKER = 8
# Ray keeps 30 % of the memory for large objects otherwise; only file names and digests travel here.
_OBJECT_STORE_BYTES = 2**27
_CONNECT_SECONDS = 5.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}

Item = TypeVar("Item")


class WorkerLost(Exception):
    """A worker and those that repeated its call have ended before it did (killed, out of memory, machine gone)."""


def spread(
    function: Callable[[Item], Any], items: Iterable[Item], at_once: int, *, tick: float, **resources: Any
) -> Generator[tuple[Item, Any, Exception | None] | None, None, None]:
    """Calls a function with every item, in processes that Ray starts; inside :func:`connected`.

    Tasks are used and not actors: an actor's calls use up their retries while it is still being restarted. Each
    process keeps its copy of the function from one call to the next, and whatever that keeps in itself.

    Closing the generator ends the calls that are under way, with their processes.

    Args:
        function: picklable, as are the items and what it returns.
        items: slow ones do not hold up the others.
        at_once: calls under way at the same time.
        tick: seconds.
        **resources: of each call, e.g. num_cpus.

    Yields:
        In the order in which they end: item, result and error. The error is what the last call raised, or
        `WorkerLost`, or None. In between None, whenever nothing has ended for a tick.

    Raises:
        SetupError: the workers cannot load the function.
    """
    ray = _import_ray()

    def call(item: Item) -> Any:
        return function(item)

    task = ray.remote(max_retries=RETRIES, retry_exceptions=True, **resources)(call)
    queue, running = deque(items), dict[Any, Item]()
    try:
        while queue or running:
            while queue and len(running) < at_once:
                item = queue.popleft()
                running[task.remote(item)] = item
            ended, _ = ray.wait(list(running), num_returns=1, timeout=tick)
            for reference in ended:
                yield running.pop(reference), *_result(ray, reference)
            if not ended:
                yield None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any) -> tuple[Any, Exception | None]:
    try:
        return ray.get(reference), None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if "failed to import on the worker" in str(cause):
            reason = str(cause).strip().splitlines()[-1].strip()
            raise SetupError(
                f"a worker could not be started ({reason}); every machine of the cluster needs nnsam"
            ) from None
        return None, cause
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return None, WorkerLost(lines[0].strip())


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
            with _own_handler():
                _connect(ray, address or os.environ.get("RAY_ADDRESS"), workers)
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        workers = workers or sum(max(1, count // _PROCESSORS_PER_WORKER) for count in machines if count)
        yield workers, processors_per_worker(machines, workers)
    finally:
        if mine:
            ray.shutdown()


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keeps Ray from taking over SIGTERM, which it answers by an exit code of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def free_processors() -> int:
    """Processors of the cluster that nobody has taken; inside :func:`connected`."""
    return int(_import_ray().available_resources().get("CPU", 0))


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
        raise SetupError("Ray is not installed; run: pip install ray") from None
    return ray


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    # Ray repeats for ever what its memory monitor has ended, and some images never fit.
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
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
