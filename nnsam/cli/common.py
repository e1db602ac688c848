"""What commands have in common: a bar for entries that are taken one by one, and warnings told as sentences."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

_Entry = TypeVar("_Entry")


def bar(entries: Sequence[_Entry], title: str = "Converting") -> Iterable[_Entry]:
    """The entries, with a progress bar on standard error while they are taken, if a person watches."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    return track(entries, title, console=screen, transient=True, disable=not screen.is_terminal)


@contextmanager
def told_warnings(command: str) -> Iterator[None]:
    """Prints warnings as sentences of a command, without the places in this package that they came from."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        print(f"nnsam {command}: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
