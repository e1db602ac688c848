"""What `nnsam predict` shows and reports: lines, bars, JSON."""

import json
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnsam.runtime.bundle import Bundle
    from nnsam.runtime.case_run import CaseOutcome, RunOptions
    from nnsam.runtime.folder_run import FolderReport


class Screen:
    """Lines on standard output, and bars on standard error where that is a terminal; may be called from threads.

    Args:
        total: number of cases.
        quiet: show nothing.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.done = 0
        self._total, self._quiet = total, quiet
        self._files = ExitStack()
        self._lock = threading.Lock()
        self._progress: Any = None
        self._tiles: Any = None

    def __enter__(self) -> "Screen":
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        if console.is_terminal and not self._quiet:
            # Lines go above the bars if they share the terminal, and to standard output untouched if not.
            bars = Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
            self._progress = self._files.enter_context(bars)
            self._cases = self._progress.add_task("Cases", total=self._total)
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def started(self, bundle: "Bundle", options: "RunOptions", reason: str) -> None:
        """Says which model is used, and in which precision."""
        model = bundle.manifest["model"]
        folds = f"fold{'s' if len(options.folds) > 1 else ''} {', '.join(options.folds)}"
        self._say(
            f"nnsam predict: {model['trainer']}, {model['configuration']}, {model['dataset']}, {folds}; precision "
            f"{options.precision}{f' ({reason})' if reason else ''}",
            sys.stderr,
        )

    def case_done(self, outcome: "CaseOutcome") -> None:
        """Prints a case's line; failures are told at the end."""
        self.done += not outcome.error
        if outcome.skipped:
            self._say(f"{outcome.case} -> {outcome.output}: was done before")
        elif not outcome.error:
            self._say(f"{outcome.case} -> {outcome.output}: {sum(outcome.seconds.values()):.1f} s")
        if self._progress is not None:
            self._progress.advance(self._cases)

    def tile_done(self, case: str, done: int, total: int) -> None:
        """Moves the bar of the current case."""
        if self._progress is not None:
            if self._tiles is None:
                self._tiles = self._progress.add_task(case, total=total)
            self._progress.update(self._tiles, description=case, completed=done, total=total)

    def note(self, sentence: str) -> None:
        """Prints a sentence that the user should see."""
        self._say(f"nnsam predict: {sentence}", sys.stderr)

    def interrupted(self) -> None:
        """Says what is there after Ctrl-C."""
        self.note(f"{self.done} of {self._total} cases are done; --continue goes on with the rest")

    def _say(self, line: str, stream: Any = None) -> None:
        if not self._quiet:
            with self._lock:
                print(line, file=stream or sys.stdout, flush=True)


def to_json(bundle: "Bundle", options: "RunOptions", reason: str, report: "FolderReport", seconds: float) -> str:
    """The JSON text of a run.

    Args:
        bundle: the model.
        options: those of the run.
        reason: why in this precision.
        report: of the run.
        seconds: from start to end, loading included.
    """
    from nnsam.machine import describe_machine

    content = {
        "model": {**bundle.manifest["model"], "digest": bundle.digest},
        "options": options.as_dict(),
        "precision": {"used": options.precision, "reason": reason},
        "machine": describe_machine(gpu=False),
        "seconds": round(seconds, 3),
        "cases": [outcome.as_dict() for outcome in report.outcomes],
    }
    return json.dumps(content, indent=2) + "\n"
