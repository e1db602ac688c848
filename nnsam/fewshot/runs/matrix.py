"""All runs of a study that were asked for: method x size x seed."""

import typing
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from nnsam.errors import InputError
from nnsam.fewshot.runs.execution import is_complete, new_state
from nnsam.fewshot.runs.methods import Method, check_available, find_methods
from nnsam.fewshot.runs.options import StudyRunOptions
from nnsam.fewshot.runs.scoring import check_results
from nnsam.fewshot.runs.state import DONE, FAILED, RunKey, RunState
from nnsam.fewshot.runs.worker import RunEnding
from nnsam.fewshot.study.protocol import Protocol


class Executor(typing.Protocol):
    """Makes runs."""

    def run(
        self, experiment: Path, keys: Sequence[RunKey], options: StudyRunOptions
    ) -> Generator[RunEnding | None, None, None]:
        """Yields the outcome of every run when it ends, and None about once per second in between.

        Closing the generator ends everything that it has started.

        Raises:
            SetupError: this way is not available here.
        """


class RunMatrix:
    """The runs of a call, checked before any of them is made.

    Args:
        experiment: the study's folder.
        methods: names.
        options: of all runs.
        sizes: numbers of training cases; None for all of the study.
        seeds: None for all of the study.

    Attributes:
        keys: seed by seed, so that all methods and sizes have a first result early, and a comparison is fair at any
            time.
        states: the runs' records as they were when this object was made; None for a run that was not started.

    Raises:
        InputError: unknown method, size or seed; a run that was made with another budget or for another study; an
            edited run.
        SetupError: a library is missing.
    """

    def __init__(
        self,
        experiment: str | Path,
        methods: Sequence[str],
        options: StudyRunOptions,
        sizes: Sequence[int] | None = None,
        seeds: Sequence[int] | None = None,
    ):
        self.experiment = Path(experiment).absolute()
        self.options = options
        self.protocol = Protocol.read(self.experiment)
        self.methods = find_methods(list(methods))
        for method in self.methods:
            check_available(method)
        self.sizes = _chosen("sizes", sizes, self.protocol.sizes)
        self.seeds = _chosen("seeds", seeds, self.protocol.seeds)
        self.keys = [
            RunKey(method.name, size, seed) for seed in self.seeds for size in self.sizes for method in self.methods
        ]
        by_name = {method.name: method for method in self.methods}
        self.states = {key: self._checked_state(key, by_name[key.method]) for key in self.keys}

    def ending(self, key: RunKey) -> str:
        """Returns "done" or "failed" for a run on which there is nothing to do, else an empty text."""
        state = self.states[key]
        if state is None:
            return ""
        if is_complete(key.folder(self.experiment), state, self.options):
            return DONE
        return FAILED if state.state == FAILED and not self.options.retry_failed else ""

    @property
    def pending(self) -> list[RunKey]:
        """Runs that are to be made or continued."""
        return [key for key in self.keys if not self.ending(key)]

    def run(self, executor: Executor) -> Generator[RunEnding | None, None, None]:
        """Makes what is pending; see :class:`Executor`."""
        if self.pending:
            with closing(executor.run(self.experiment, self.pending, self.options)) as outcomes:
                yield from outcomes

    def _checked_state(self, key: RunKey, method: Method) -> RunState | None:
        state = RunState.read(self.experiment, key)
        if state is not None:
            folder = key.folder(self.experiment)
            state.check_same(new_state(self.protocol, key, method, self.options), folder)
            check_results(folder, state.results)
        return state


def _chosen(name: str, wanted: Iterable[int] | None, known: Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(known if wanted is None else dict.fromkeys(wanted))
    unknown = [value for value in chosen if value not in known]
    if unknown or not chosen:
        raise InputError(
            f"the study has the {name} {', '.join(map(str, known))}, not {', '.join(map(str, unknown)) or 'none'}; "
            "choose among them, or prepare another study"
        )
    return chosen
