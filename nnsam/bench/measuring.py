"""Measures on this machine: candidates in turn, so that it slows all of them down alike, and fresh processes."""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnsam.errors import SetupError

# Seconds between two looks at a process, short beside what is measured, long beside what a look costs.
_INTERVAL = 0.004
_TIMEOUT = 3600

# Gets what was prepared for the round.
Candidate = Callable[[Any], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, a value per round.

    Attributes:
        seconds: in the order of the rounds, the same for all candidates that were timed together.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Quickest round."""
        return min(self.seconds)

    @property
    def maximum(self) -> float:
        """Slowest round."""
        return max(self.seconds)


def time_alternating(
    candidates: Mapping[str, Candidate],
    rounds: int,
    warmup: int = 1,
    prepare: Callable[[int], object] = lambda number: number,
    seed: int = 0,
) -> dict[str, Timing]:
    """Runs every candidate once per round, in an order that is drawn anew for each round.

    Args:
        candidates: name -> what is timed; compile and load before.
        rounds: that count, at least 1.
        warmup: rounds before them, which do not count; their numbers are -warmup to -1.
        prepare: makes from the number of a round what its candidates get, outside of the timing; another content for
            every round leaves nothing to those that remember what they have seen.
        seed: of the order.

    Returns:
        Name -> seconds.
    """
    generator = random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-warmup, rounds):
        content = prepare(number)
        for name in generator.sample(list(candidates), len(candidates)):
            start = time.perf_counter()
            candidates[name](content)
            seconds = time.perf_counter() - start
            if number >= 0:
                taken[name].append(seconds)
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def speedup(slow: Timing, fast: Timing) -> dict[str, float]:
    """Compares two candidates that were timed in the same rounds.

    Returns:
        `speedup`: the median over the rounds of slow / fast; `speedup_low` and `speedup_high`: the smallest and the
        largest; `speedup_of_minima`: quickest round of either.
    """
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {
        "speedup": statistics.median(ratios),
        "speedup_low": min(ratios),
        "speedup_high": max(ratios),
        "speedup_of_minima": slow.minimum / fast.minimum,
    }


def comparison(name: str, timings: Mapping[str, Timing], reference: str) -> dict:
    """One row of the JSON object: all candidates of a comparison beside the reference.

    Args:
        name: of what is computed.
        timings: of the candidates.
        reference: which of them the speed-ups refer to.
    """
    rows = [
        {
            "name": candidate,
            "median_s": timing.median,
            "min_s": timing.minimum,
            "max_s": timing.maximum,
            **speedup(timings[reference], timing),
        }
        for candidate, timing in timings.items()
    ]
    return {"name": name, "reference": reference, "candidates": rows}


def find_speedup(comparisons: Sequence[dict], name: str, candidate: str) -> float | None:
    """Looks up a speed-up in what :func:`comparison` made; None where it was not measured."""
    for entry in comparisons:
        for row in entry["candidates"]:
            if entry["name"] == name and row["name"] == candidate:
                return row["speedup"]
    return None


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
        peak = peak_memory_mb(process.pid) or peak
        if time.perf_counter() - start > _TIMEOUT:
            raise SetupError(f"the process that is measured has not ended within {_TIMEOUT} s; it was stopped")
        time.sleep(_INTERVAL)
    return written, peak


def peak_memory_mb(process: int | None = None) -> float | None:
    """Peak resident memory in MB of a running process, this one by default; None where the system does not tell.

    Linux' VmHWM, since a child's ru_maxrss starts from its parent's; for this process ru_maxrss on other Unix systems.

    Args:
        process: its id; None: this one.
    """
    try:
        with open(f"/proc/{process or 'self'}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None if process else peak / (2**20 if sys.platform == "darwin" else 1024)


def segment_command(bundle: Path, image: Path, boxes: Path, output: Path, options: Sequence[str] = ()) -> list[str]:
    """The command line of `nnsam segment` for one image."""
    return [
        *(sys.executable, "-m", "nnsam", "segment", str(bundle)),
        *("-i", str(image), "--boxes", str(boxes), "-o", str(output)),
        *options,
    ]
