"""Cold runs: a command in a fresh process, from its start to the first file that it writes, and its peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnsam.errors import SetupError

_INTERVAL = 0.004  # seconds between two looks, short beside what is measured, long beside what a look costs
_TIMEOUT = 3600


@dataclass(frozen=True)
class ColdRun:
    """What one process took.

    Attributes:
        seconds: from its start until its output lay on disk, complete.
        process_seconds: until it had ended.
        peak_mb: its peak resident memory in MB; None where the system does not tell.
    """

    seconds: float
    process_seconds: float
    peak_mb: float | None


def run_cold(command: Sequence[str], output: Path, environment: Mapping[str, str] | None = None) -> ColdRun:
    """Runs a command that writes `output` at once (by renaming), and watches it from outside.

    Args:
        command: program and arguments.
        output: file; an old one is removed before.
        environment: variables beside this process's.

    Raises:
        SetupError: the command failed, wrote nothing, or took more than an hour.
    """
    output.unlink(missing_ok=True)
    with tempfile.TemporaryFile("w+") as messages:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        try:
            written, peak = _watch(process, output, start)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        ended = time.perf_counter() - start
        messages.seek(0)
        said = messages.read().strip().splitlines()
    if process.returncode or not output.exists():
        reason = said[-1] if said else f"exit code {process.returncode}, no output"
        raise SetupError(f"the process that is measured failed: {reason}")
    return ColdRun(ended if written is None else written, ended, peak)


def _watch(process: subprocess.Popen, output: Path, start: float) -> tuple[float | None, float | None]:
    """Waits for the end; returns when the file appeared, and the last peak of memory that the system told."""
    written, peak = None, None
    while process.poll() is None:
        if written is None and output.exists():
            written = time.perf_counter() - start
        peak = peak_of_process(process.pid) or peak
        if time.perf_counter() - start > _TIMEOUT:
            raise SetupError(f"the process that is measured has not ended within {_TIMEOUT} s; it was stopped")
        time.sleep(_INTERVAL)
    return written, peak


def peak_of_process(pid: int) -> float | None:
    """Peak resident memory in MB of a running process, Linux' VmHWM; None elsewhere or where it has ended.

    Not a child's ru_maxrss, which starts from its parent's.
    """
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")), None)
    except OSError:
        return None


def segment_command(bundle: Path, image: Path, boxes: Path, output: Path, options: Sequence[str] = ()) -> list[str]:
    """The command line of `nnsam segment` for one image."""
    return [
        *(sys.executable, "-m", "nnsam", "segment", str(bundle)),
        *("-i", str(image), "--boxes", str(boxes), "-o", str(output)),
        *options,
    ]
