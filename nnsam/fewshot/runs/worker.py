"""The process that makes one run: `python -m nnsam.fewshot.runs.worker EXPERIMENT METHOD SIZE SEED OPTIONS`.

Each run has a process of its own, so that memory, threads and crashes of one do not touch another.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnsam.errors import InputError, NnsamError
from nnsam.fewshot.runs.execution import BUSY, LOG, execute_run
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.state import DONE, FAILED, RunKey
from nnsam.support.concurrency import TERMINATED, Terminated, end, end_with_parent, start_guarded, terminable

# Exit codes. 1 and 2 are Python's own.
CODES = {DONE: 0, FAILED: 3, BUSY: 4}
REFUSED = "refused"
_REFUSED_CODE = 5


@dataclass(frozen=True)
class RunEnding:
    """How a run ended.

    Attributes:
        key: which run.
        ending: "done", "failed", "busy" (another process is at it) or "refused" (its record does not fit).
        sentence: why, where its record does not tell; else empty.
    """

    key: RunKey
    ending: str
    sentence: str = ""


def start_worker(
    experiment: Path, key: RunKey, options: StudyRunOptions, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts the process of a run; what it prints goes to the run's log.

    Args:
        experiment: the study's folder.
        key: which run.
        options: how.
        environment: variables that are added to this process's.

    Raises:
        InputError: the run's folder cannot be written to.
    """
    folder = key.folder(experiment)
    arguments = [str(experiment.absolute()), key.method, str(key.size), str(key.seed), options.to_json()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOG, "ab") as log:
            return start_guarded([sys.executable, "-m", "nnsam.fewshot.runs.worker", *arguments], log, environment)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to ({error.strerror or error}); give yourself the right"
        ) from None


def run_worker(experiment: Path, key: RunKey, options: StudyRunOptions) -> tuple[str, str]:
    """Makes a run in a process of its own and waits for it; see :func:`ending`. Any end of this call ends it, too."""
    process = start_worker(experiment, key, options)
    try:
        process.wait()
    finally:
        end(process)
    return ending(experiment, key, process.returncode)


def ending(experiment: Path, key: RunKey, code: int) -> tuple[str, str]:
    """How a run's process ended.

    Returns:
        "done", "failed", "busy" or "refused" (its record does not fit), and a sentence where it is neither of the
        first two.
    """
    for name, value in CODES.items():
        if code == value:
            return name, ""
    log = key.folder(experiment) / LOG
    if code == _REFUSED_CODE:
        return REFUSED, log.read_text(encoding="utf-8", errors="replace").splitlines()[-1]
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return FAILED, f"its process ended with {how} (out of memory?); the next call goes on with it; see {log}"


def main() -> int:
    """Makes the run and returns the exit code that tells how it ended."""
    experiment, method, size, seed, options_text = sys.argv[1:]
    end_with_parent()
    options = StudyRunOptions.from_json(options_text)
    if options.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, options.cores)
    try:
        with terminable():
            return CODES[execute_run(Path(experiment), RunKey(method, int(size), int(seed)), options)]
    except Terminated:
        return TERMINATED
    except NnsamError as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED_CODE


if __name__ == "__main__":
    sys.exit(main())
