"""A bar for commands that take their entries one by one."""

from collections.abc import Iterable
from typing import TypeVar

_Entry = TypeVar("_Entry")


def bar(entries: list[_Entry]) -> Iterable[_Entry]:
    """The entries, with a progress bar while they are taken if a person watches."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    return track(entries, "Converting", console=screen, transient=True, disable=not screen.is_terminal)
