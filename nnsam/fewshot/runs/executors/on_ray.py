"""Runs as tasks on a Ray cluster, whose machines see the study's folder at the same place."""

import platform
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import FAILED, RunKey
from nnsam.fewshot.runs.worker import RunEnding, run_worker
from nnsam.fewshot.study.protocol import FILE as PROTOCOL_FILE
from nnsam.support.ray_cluster import connected, spread

_TICK_SECONDS = 1.0


class RayExecutor:
    """Makes runs on a Ray cluster; one is started on this machine where there is none.

    A run on a machine that is lost goes on from its checkpoint on another one.

    Args:
        jobs: runs at once; 0 for one per 8 processors.
        address: see :func:`nnsam.support.ray_cluster.connected`.
    """

    def __init__(self, jobs: int = 0, address: str | None = None):
        self.jobs, self.address = jobs, address

    def run(
        self, experiment: Path, keys: Sequence[RunKey], options: StudyRunOptions
    ) -> Generator[RunEnding | None, None, None]:
        """See :class:`nnsam.fewshot.runs.matrix.Executor`."""
        with connected(self.address, self.jobs or None) as (jobs, processors):
            _check_resources(options, processors)
            options = replace(options, threads=options.threads or processors)
            resources: dict[str, Any] = {"num_cpus": options.threads, "num_gpus": int(options.device == "cuda")}
            make = partial(_make, experiment.absolute(), options)
            with closing(spread(make, keys, jobs, tick=_TICK_SECONDS, **resources)) as endings:
                for ending in endings:
                    yield ending and _outcome(*ending)


def _make(experiment: Path, options: StudyRunOptions, key: RunKey) -> tuple[str, str]:
    """The task: makes a run in a process of its own, which ends with the task's."""
    if not (experiment / PROTOCOL_FILE).is_file():
        return FAILED, (
            f"the Ray worker on {platform.node()} does not find {experiment}; all machines of the cluster need the "
            "same file system at the same place"
        )
    return run_worker(experiment, key, options)


def _outcome(key: RunKey, result: tuple[str, str] | None, error: Exception | None) -> RunEnding:
    if result is not None:
        return RunEnding(key, *result)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RunEnding(key, FAILED, f"its Ray task was lost ({lines[-1].strip()}); the next call goes on with it")


def _check_resources(options: StudyRunOptions, processors: int) -> None:
    """A task that fits nowhere would wait for ever."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = max((int(machine.get("CPU", 0)) for machine in machines), default=0)
    if options.threads > cores:
        raise InputError(
            f"a run with {options.threads} threads fits on no machine of the Ray cluster (at most {cores} processors); "
            f"ask for fewer, or leave --threads out for {processors}"
        )
    if options.device == "cuda" and not any(machine.get("GPU") for machine in machines):
        raise InputError("no machine of the Ray cluster has a GPU; start it with --num-gpus, or use --device cpu")
