"""Runs on this machine, several at once, each on its own processors or GPU."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import RunKey
from nnsam.fewshot.runs.worker import RunEnding, ending, start_worker
from nnsam.support.concurrency import end

_POLL_SECONDS = 0.2
_TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Slot:
    """Place for one run at a time.

    Attributes:
        threads: number of processors.
        cores: their numbers; empty where the system decides.
        gpu: value of CUDA_VISIBLE_DEVICES; empty without a GPU.
    """

    threads: int
    cores: tuple[int, ...] = ()
    gpu: str = ""


class LocalExecutor:
    """Makes runs on this machine.

    Args:
        jobs: runs at once; 0 for one, or one per GPU.
        gpus: number of GPUs; used with the device cuda only.
    """

    def __init__(self, jobs: int = 0, gpus: int = 1):
        self.jobs, self.gpus = jobs, gpus

    def run(
        self, experiment: Path, keys: Sequence[RunKey], options: StudyRunOptions
    ) -> Generator[RunEnding | None, None, None]:
        """See :class:`nnsam.fewshot.runs.matrix.Executor`."""
        gpus = visible_gpus(self.gpus) if options.device == "cuda" else []
        free = make_slots(self.jobs or len(gpus) or 1, options.threads, gpus, available_cores())
        queue, running = deque(keys), dict[RunKey, tuple[Slot, "subprocess.Popen[bytes]"]]()
        last_tick = 0.0
        try:
            while queue or running:
                while queue and free:
                    slot, key = free.pop(0), queue.popleft()
                    running[key] = slot, _start(experiment, key, options, slot)
                for key, (slot, process) in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[key]
                        end(process)
                        free.append(slot)
                        yield RunEnding(key, *ending(experiment, key, code))
                if time.monotonic() - last_tick > _TICK_SECONDS:
                    last_tick = time.monotonic()
                    yield None
                if running and not (queue and free):
                    time.sleep(_POLL_SECONDS)
        finally:
            for _, process in running.values():
                end(process)


def make_slots(jobs: int, threads: int, gpus: Sequence[str], cores: Sequence[int]) -> list[Slot]:
    """Divides processors and GPUs.

    Args:
        jobs: number of slots.
        threads: processors of each; 0 for an equal share.
        gpus: names; shared in turn where there are fewer than slots.
        cores: numbers of the processors. A slot stays on its own ones, unless there are too few for all.

    Raises:
        InputError: no slot.
    """
    if jobs < 1:
        raise InputError(f"the number of jobs is {jobs}; expected at least 1")
    each = threads or max(1, len(cores) // jobs)
    pinned = each * jobs <= len(cores) and each < len(cores)
    return [
        Slot(
            each,
            tuple(cores[index * each : (index + 1) * each]) if pinned else (),
            gpus[index % len(gpus)] if gpus else "",
        )
        for index in range(jobs)
    ]


def available_cores() -> list[int]:
    """Numbers of the processors that this process may use; a container or `taskset` may have taken some away."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def visible_gpus(count: int) -> list[str]:
    """Names of the first GPUs, of those in CUDA_VISIBLE_DEVICES where that is set.

    Raises:
        InputError: it has fewer.
    """
    if count < 1:
        raise InputError(f"the number of GPUs is {count}; expected at least 1, or another device")
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if value is None else [name for name in value.split(",") if name]
    if len(names) < count:
        raise InputError(f"{count} GPUs were asked for, and CUDA_VISIBLE_DEVICES is {value!r}; ask for fewer")
    return names[:count]


def _start(experiment: Path, key: RunKey, options: StudyRunOptions, slot: Slot) -> "subprocess.Popen[bytes]":
    environment = {"CUDA_VISIBLE_DEVICES": slot.gpu} if slot.gpu else {}
    return start_worker(experiment, key, replace(options, threads=slot.threads, cores=slot.cores), environment)
