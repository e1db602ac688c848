"""What `nnsam fewshot run` and `status` show: a table of states that lives on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nnsam.fewshot.runs.matrix import RunMatrix
    from nnsam.fewshot.runs.state import RunKey, RunState
    from nnsam.fewshot.runs.worker import RunEnding


_COLOURS = {"done": "green", "failed": "red", "pending": "dim"}


class RunScreen:
    """Shows a call's runs while they are made, and a summary at the end.

    Args:
        matrix: the runs.

    Attributes:
        exit_code: 0, or 1 where a run failed or was refused.
        interrupted: set it after Ctrl-C; the summary says how to go on.
    """

    def __init__(self, matrix: "RunMatrix"):
        self._matrix = matrix
        self._states = dict(matrix.states)
        self._endings = {key: matrix.ending(key) for key in matrix.keys if matrix.ending(key)}
        self._sentences: dict[RunKey, str] = {}
        self._ended = len(self._endings)
        self._live: Any = None
        self._start = time.time()
        self.interrupted = False

    @property
    def exit_code(self) -> int:
        """See the class."""
        return int(any(ending in ("failed", "refused") for ending in self._endings.values()))

    def __enter__(self) -> "RunScreen":
        from rich.console import Console
        from rich.live import Live

        console = Console()
        if console.is_terminal:
            self._live = Live(self._table(), console=console, refresh_per_second=1)
            self._live.start()
        elif self._ended:
            print(f"{self._ended} of {len(self._matrix.keys)} runs were finished before.", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._read()
            self._live.update(self._table())
            self._live.stop()
        self._summarize()

    def update(self, outcome: "RunEnding | None") -> None:
        """Takes what an executor yields."""
        if outcome is not None:
            self._ended += 1
            self._endings[outcome.key], self._sentences[outcome.key] = outcome.ending, outcome.sentence
            self._read([outcome.key])
            if self._live is None:
                self._print_line(outcome.key)
        if self._live is not None:
            self._read()
            self._live.update(self._table())

    def _read(self, keys: "Iterable[RunKey] | None" = None) -> None:
        from nnsam.errors import InputError
        from nnsam.fewshot.runs.state import RunState

        for key in self._matrix.keys if keys is None else keys:
            state = self._states[key]
            if keys is None and state is not None and state.state in ("done", "failed"):
                continue
            try:
                self._states[key] = RunState.read(self._matrix.experiment, key)
            except InputError as error:
                self._sentences[key] = str(error)

    def _table(self) -> "Table":
        states = {key: self._states[key] for key in self._matrix.keys}
        running = {key for key, state in states.items() if state is not None and state.changed >= self._start}
        return state_table(self._matrix.keys, states, running)

    def _print_line(self, key: "RunKey") -> None:
        state, ending = self._states[key], self._endings[key]
        times = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in state.seconds.items()) if state else ""
        detail = (
            f": {self._reason(key)}" if ending in ("failed", "refused") else f" ({times})" if ending == "done" else ""
        )
        words = {"busy": "is made by another process"}.get(ending, ending)
        print(f"[{self._ended}/{len(self._matrix.keys)}] {key} {words}{detail}", flush=True)

    def _reason(self, key: "RunKey") -> str:
        state = self._states[key]
        return self._sentences.get(key) or (state.error if state is not None else "") or "see its log.txt"

    def _summarize(self) -> None:
        keys, endings = self._matrix.keys, list(self._endings.values())
        done, failed = (
            endings.count("done"),
            [key for key, ending in self._endings.items() if ending in ("failed", "refused")],
        )
        if self._live is not None or len(failed) > len(self._sentences):
            for key in failed:
                print(f"{key}: {self._reason(key)}", file=sys.stderr)
        lines = [f"{done} of {len(keys)} runs are done"]
        if failed:
            lines.append(f"{len(failed)} failed (logs: runs/METHOD/SUBSET/log.txt; --retry-failed tries again)")
        if "busy" in endings:
            lines.append(f"{endings.count('busy')} are made by another process")
        if self.interrupted or done + len(failed) + endings.count("busy") < len(keys):
            lines.append("the same command goes on with the rest")
        print("; ".join(lines) + ".", file=sys.stderr)


def state_table(
    keys: "Sequence[RunKey]",
    states: "Mapping[RunKey, RunState | None]",
    running: "set[RunKey]",
) -> "Table":
    """A table of methods and sizes by seeds.

    Args:
        keys: the runs.
        states: their records.
        running: those at which a process is at work; others that are not finished are shown as stopped.
    """
    from rich.markup import escape
    from rich.table import Table

    seeds = sorted({key.seed for key in keys})
    table = Table()
    table.add_column("method")
    table.add_column("size", justify="right")
    for seed in seeds:
        table.add_column(f"seed {seed}")
    by_place = {(key.method, key.size, key.seed): key for key in keys}
    for method, size in dict.fromkeys((key.method, key.size) for key in sorted(keys, key=lambda k: (k.method, k.size))):
        row = [by_place.get((method, size, seed)) for seed in seeds]
        cells = ["" if key is None else _cell(states[key], key in running) for key in row]
        table.add_row(escape(method), str(size), *cells)
    return table


def _cell(state: "RunState | None", running: bool) -> str:
    name = "pending" if state is None else state.state
    seconds = 0.0 if state is None else sum(state.seconds.values())
    if state is not None and name not in _COLOURS:
        if running:
            seconds = time.time() - state.changed
        else:
            name = f"stopped ({name})"
    colour = _COLOURS.get(name, "yellow")
    return f"[{colour}]{name}{f' {seconds:.0f} s' if seconds else ''}[/{colour}]"


def wide_console(width: int = 140) -> "Console":
    """A console of this width, enough for a table, where the output is not a terminal but a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, highlight=False)
