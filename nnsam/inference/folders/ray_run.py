"""Predicts a folder of cases on a Ray cluster.

All machines must see the same files: the model, the images and the output folder lie on a file system that is mounted
at the same place everywhere. Only names and digests travel through Ray. Each worker opens the model once. The record
of the run is written by the calling process alone, which makes an interrupted run one that can be continued, with or
without Ray.
"""

import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from nnsam.errors import InputError, NnsamError, SetupError
from nnsam.inference.bundle import Bundle, is_bundle
from nnsam.inference.folders.dispatch import Outcome, WorkerLost, spread
from nnsam.inference.folders.predict import CaseOutcome, FolderReport, FolderRun, RunOptions, output_files, predict_one
from nnsam.io.finding import Case

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
    """Starts workers on Ray; see :class:`nnsam.inference.folders.dispatch.Cluster`.

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


# A case and its label map.
_Task: TypeAlias = tuple[Case, Path]


def predict_on_ray(
    bundle: Bundle | str | Path,
    cases: Sequence[Case],
    output: str | Path,
    options: RunOptions,
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 0,
    retries: int = 2,
    resume: bool = False,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> FolderReport:
    """Segments all cases into a folder, as `nnsam.inference.folders.predict.predict_folder` does, on many workers.

    A case that fails for any reason but its images is tried again on another worker. Ctrl-C ends the workers and keeps
    what is finished.

    Args:
        bundle: the model, or its folder.
        cases: see `nnsam.io.finding.find_cases`.
        output: folder.
        options: of the run.
        address: "local", "auto", host:port, or None, see `nnsam.inference.folders.ray_run.connected`.
        workers: cases at the same time; None for one per 8 processors, at least one on each machine.
        threads: of each worker; 0 for an equal share of the processors.
        retries: how often a failed case is tried again.
        resume: skip cases that an earlier run with the same model and options has finished.
        on_case: called when a case has ended, and at the start with the skipped ones.
        note: called with sentences that the user should see.

    Raises:
        InputError: see `FolderRun`; or a machine that does not see the files.
        SetupError: Ray is absent, there is no such cluster, or its workers cannot start.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, "automatic")
    run = FolderRun(bundle, cases, output, options, resume)
    for skipped in run.report.outcomes:
        on_case(skipped)
    if not run.pending:
        return run.report
    tasks = [_task(run, case) for case in run.pending]
    opener = _OpenModel(bundle.folder.absolute(), bundle.digest, Path(output).absolute(), options, threads)
    try:
        with connected(address, workers) as (count, processors):
            cluster = RayCluster(opener, processors, note)
            with closing(spread(tasks, cluster, count, retries)) as outcomes:
                for outcome in outcomes:
                    result = _ended(run, outcome)
                    run.add(result)
                    on_case(result)
    finally:
        run.close()
        _remove_drafts(Path(output), tasks, options, bundle.manifest["input"]["file_ending"])
    return run.report


def _task(run: FolderRun, case: Case) -> _Task:
    """Workers have another current folder: what they are told are absolute paths."""
    files = tuple(Path(file).absolute() for file in case.files)
    return replace(case, files=files), run.output(case).absolute()


def _ended(run: FolderRun, outcome: Outcome[_Task]) -> CaseOutcome:
    case, _ = outcome.case
    output = run.output(case)  # as the user named it
    if outcome.error:
        known = case.name in outcome.error
        return CaseOutcome(case.name, output, error=outcome.error if known else f"{case.name}: {outcome.error}")
    return replace(outcome.result, output=output)


def _remove_drafts(output: Path, tasks: Iterable[_Task], options: RunOptions, ending: str) -> None:
    """Removes what workers were writing when they were killed; see `nnsam.support.files.atomic_file`."""
    names = {path.name for _, label_map in tasks for path in output_files(label_map, ending, options)}
    for path in output.iterdir():
        draft = re.fullmatch(r"\.\d+\.(.+)", path.name)
        if draft and draft[1] in names:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _OpenModel:
    """Opens the model in a worker; see `nnsam.inference.folders.ray_run.Opener`."""

    folder: Path
    digest: str
    output: Path
    options: RunOptions
    threads: int

    def __call__(self, processors: int) -> Callable[[_Task], CaseOutcome]:
        from nnsam.inference.automatic.predictor import Predictor

        node = platform.node()
        for what, path, found in (
            ("model", self.folder, is_bundle(self.folder)),
            ("output folder", self.output, self.output.is_dir()),
        ):
            if not found:
                raise InputError(
                    f"the worker on {node} does not find the {what} {path}; all machines of a Ray cluster "
                    "need the same file system at the same place"
                )
        options, threads = self.options, self.threads or processors
        predictor = Predictor.open(self.folder, options.precision, threads=threads, folds=options.folds)
        if predictor.bundle.digest != self.digest:
            raise InputError(f"the worker on {node} finds another model at {self.folder}; copy it again")
        return lambda task: predict_one(predictor, *task, options)
