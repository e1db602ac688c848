"""The progress bar of a download, on standard error so that standard output stays machine-readable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def download_bar(name: str, total: int, enabled: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the body runs.

    Args:
        name: What is being downloaded.
        total: Its length in bytes.
        enabled: False shows nothing; nor is anything shown where standard error is not a terminal.

    Yields:
        A function that takes the number of bytes that are there by now.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)
