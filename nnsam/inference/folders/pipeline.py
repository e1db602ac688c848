"""Jobs of three stages whose stages overlap: one job is read while another is computed and a third is written."""

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

# How often the main thread looks up from waiting, in seconds: without it Windows would not notice Ctrl-C.
_POLL = 0.1


class Job(Protocol):
    """What is to be done for one case; a stage notes its failure in the job, and then the others do nothing."""

    def read(self) -> None:
        """Done in a thread."""

    def infer(self) -> None:
        """Done in the calling thread; may raise `RunCancelled`."""

    def write(self) -> None:
        """Done in another thread."""


class RunCancelled(Exception):
    """Raised within a job's `infer` to end the run."""


AnyJob = TypeVar("AnyJob", bound=Job)


def run_jobs(
    jobs: Iterable[AnyJob],
    done: Callable[[AnyJob], None],
    *,
    at_once: int = 3,
    cancelled: Callable[[], bool] = lambda: False,
) -> bool:
    """Runs all stages of all jobs, in order.

    Whatever ends it, no thread is left behind. A job that is being written is finished first; those that are not yet
    written are dropped.

    Args:
        jobs: taken one by one, when there is room.
        done: called in the writing thread after each job, with the job; what it raises ends the run.
        at_once: jobs that may be between the start of `read` and the end of `write`, which bounds the memory; 3 keeps
            all stages busy, 1 overlaps nothing.
        cancelled: asked between jobs; True ends the run.

    Returns:
        True when all jobs were done, False when cancelled.
    """
    line = _Line(at_once)
    threads = [
        threading.Thread(target=line.guarded, args=(line.read_all, jobs), name="nnsam-read", daemon=True),
        threading.Thread(target=line.guarded, args=(line.write_all, done), name="nnsam-write", daemon=True),
    ]
    for thread in threads:
        thread.start()
    finished = False
    try:
        finished = line.infer_all(cancelled)
        if finished:
            _join(threads)
    except RunCancelled:
        finished = False
    finally:
        line.end()
        _join(threads)
    if line.error is not None:
        raise line.error
    return finished


class _Line:
    """The queues between the stages."""

    def __init__(self, at_once: int) -> None:
        self.room = threading.Semaphore(at_once)
        self.ready: queue.SimpleQueue = queue.SimpleQueue()
        self.computed: queue.SimpleQueue = queue.SimpleQueue()
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def guarded(self, work: Callable, argument: object) -> None:
        """A thread's work; an error ends the run and is raised in the main thread."""
        try:
            work(argument)
        except BaseException as error:
            self.error = self.error or error
            self.stop.set()

    def read_all(self, jobs: Iterable[Job]) -> None:
        remaining = iter(jobs)
        while self._has_room() and (job := next(remaining, None)) is not None:
            job.read()
            self.ready.put(job)
            del job  # else it would be kept while this thread waits for room
        self.ready.put(None)

    def _has_room(self) -> bool:
        self.room.acquire()
        return not self.stop.is_set()

    def infer_all(self, cancelled: Callable[[], bool]) -> bool:
        while not (self.stop.is_set() or cancelled()):
            try:
                job = self.ready.get(timeout=_POLL)
            except queue.Empty:
                continue
            if job is not None:
                job.infer()
            self.computed.put(job)
            if job is None:
                return True
            del job
        return False

    def write_all(self, done: Callable[[Job], None]) -> None:
        while (job := self.computed.get()) is not None and not self.stop.is_set():
            job.write()
            done(job)
            del job
            self.room.release()

    def end(self) -> None:
        """Wakes both threads, so that they end."""
        self.stop.set()
        self.room.release()
        self.computed.put(None)


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(_POLL)
