"""Thousands of damaged inputs for every reader, bundle field, box file, model folder and trainer name.

    python -m tests.campaigns.fuzz --tries 2000 --seed 20261127

Each input follows from the seed and its number alone; `--only 17` repeats one, in this process, with its stack trace in
full. An input is a defect where anything but one sentence of the package comes out: another exception, a result that
nobody can use, more than 3 GB of memory, more than 60 seconds, or the end of the process.
"""

import argparse
import datetime
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
# The first input of each target also pays for imports and for the valid input that is damaged afterwards.
SECONDS_OF_START = 240
BYTES = 3 * 2**30
SEED = "NNSAM_FUZZ_SEED"


def seed_of_today():
    """NNSAM_FUZZ_SEED, else another number every day."""
    return int(os.environ.get(SEED) or datetime.date.today().strftime("%Y%m%d"))


def choose(seed, number, names):
    """Name of the target and the random generator of an input."""
    rng = np.random.default_rng([seed, number])
    return names[number % len(names)], rng


@dataclass
class Report:
    """What became of the inputs: counts by kind, and a line per defect, which `progress` is told at once."""

    progress: Callable[[str], object] | None = None
    counts: Counter = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def add(self, number, target, kind, detail):
        self.counts[kind] += 1
        if kind not in ("read", "refused"):
            self.defects.append(f"{number} ({target}): {kind}: {detail}")
            if self.progress:
                self.progress(self.defects[-1])

    def text(self):
        return f"{self.counts.total()} inputs, {len(self.defects)} defects: {dict(self.counts)}"


def campaign(tries, seed, names, first=0, seconds=SECONDS, progress=None):
    """Runs inputs in worker processes, of which a new one is started where one ends or hangs."""
    report, number = Report(progress), first
    while number < first + tries:
        number = _watch(report, seed, names, number, first + tries, seconds)
    return report


def _watch(report, seed, names, number, end, seconds):
    """Follows one worker and returns the number of the next input."""
    words = [sys.executable, "-m", "tests.campaigns.fuzz", "--worker", str(number), str(end), "--seed", str(seed)]
    words += ["--targets", ",".join(names)]
    environment = {**os.environ, "PYTHONFAULTHANDLER": ""}
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env=environment)
        assert worker.stdout is not None
        started, used, limit, begun = time.monotonic(), 0.0, SECONDS_OF_START, number
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(worker.stdout, selectors.EVENT_READ)
                while number < end:
                    if not selector.select(1) and _is_stuck(worker.pid, started, used, limit):
                        report.add(number, names[number % len(names)], "hang", f"more than {limit} seconds")
                        return number + 1
                    if not selector.select(0):
                        continue
                    line = worker.stdout.readline()
                    if not line:
                        errors.seek(0)
                        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                        report.add(number, names[number % len(names)], "crash", f"exit code {worker.wait()} {last}")
                        return number + 1
                    found = json.loads(line)
                    report.add(found["number"], found["target"], found["kind"], found["detail"])
                    number, started, used = found["number"] + 1, time.monotonic(), _processor_seconds(worker.pid)
                    limit = seconds if number >= begun + len(names) else limit
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
    return number


def _is_stuck(pid, started, used, limit):
    """Whether an input took its seconds of the processor, which others may use, too, or ten times as long."""
    waited = time.monotonic() - started
    return waited > 10 * limit or (waited > limit and _processor_seconds(pid) - used > 0.8 * limit)


def _processor_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):  # not Linux, or ended
        return time.monotonic()


def _work(first, end, seed, names):
    """The worker: one line of JSON per input on the standard output, to which nothing else writes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # ITK and OpenVINO may print
    targets = _targets()
    from helpers.fuzz_targets import outcome_of

    limited = False
    for number in range(first, end):
        target, rng = choose(seed, number, names)
        with tempfile.TemporaryDirectory(prefix="nnsam_fuzz_") as folder:
            outcome = outcome_of(lambda: targets[target](Path(folder), rng))  # noqa: B023 - called at once
        found = {"number": number, "target": target, "kind": outcome.kind, "detail": outcome.detail}
        print(json.dumps(found), file=out, flush=True)
        if not limited and number >= first + len(names):  # all is imported by now
            _limit_memory()
            limited = True


def _limit_memory():
    """What the process has mapped now and 3 GB more: a greater allocation raises MemoryError."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # not Linux
        return
    limit = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _targets():
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.fuzz_targets import EXAMPLES, TARGETS

    return {**TARGETS, **{f"example {name}": run for name, run in EXAMPLES.items()}}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000, help="inputs (%(default)s)")
    parser.add_argument("--seed", type=int, default=seed_of_today(), help="(today: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--targets", help="names, separated by commas (default: all)")
    parser.add_argument("--only", type=int, help="number of one input, to be repeated in this process")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    names = (
        args.targets.split(",") if args.targets else [name for name in _targets() if not name.startswith("example ")]
    )
    if args.worker:
        _work(*args.worker, args.seed, names)
        return 0
    if args.only is not None:
        target, rng = choose(args.seed, args.only, names)
        folder = Path(tempfile.mkdtemp(prefix="nnsam_fuzz_"))
        print(f"{target}, in {folder}")
        _targets()[target](folder, rng)
        return 0
    print(f"seed {args.seed}, targets: {', '.join(names)}", flush=True)
    report = campaign(args.tries, args.seed, names, args.first, progress=lambda line: print(line, flush=True))
    print(report.text())
    return 1 if report.defects else 0


if __name__ == "__main__":
    sys.exit(main())
