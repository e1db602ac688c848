"""What all ways to make runs have in common."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nnsam.fewshot.runs.options import RunOptions
from nnsam.fewshot.runs.state import RunKey


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        key: which run.
        ending: "done", "failed", "busy" (another process is at it) or "refused" (its record does not fit).
        sentence: why, where its record does not tell; else empty.
    """

    key: RunKey
    ending: str
    sentence: str = ""


class Executor(Protocol):
    """Makes runs."""

    def run(
        self, experiment: Path, keys: Sequence[RunKey], options: RunOptions
    ) -> Generator[Outcome | None, None, None]:
        """Yields the outcome of every run when it ends, and None about once per second in between.

        Closing the generator ends everything that it has started.

        Raises:
            SetupError: this way is not available here.
        """
