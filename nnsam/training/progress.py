"""What a person sees of a training on a terminal: a bar within the epoch, and what Ctrl-C leaves."""

import sys
from pathlib import Path
from typing import Any

# Those that nnU-Net's --c looks for, in its order.
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


class EpochBar:
    """A bar on standard error while an epoch lasts; nothing where that is no terminal.

    It draws when it is moved, without a thread of its own, beside which nnU-Net could not fork.
    """

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def start(self, title: str, steps: int) -> None:
        """Begins a bar, in place of an earlier one."""
        from rich.console import Console
        from rich.progress import Progress

        self.stop()
        console = Console(stderr=True)
        if console.is_terminal:
            # What is printed goes above the bar if they share the terminal, and to standard output untouched if not.
            shared = sys.stdout.isatty()
            self._progress = Progress(console=console, transient=True, auto_refresh=False, redirect_stdout=shared)
            self._progress.start()
            self._task = self._progress.add_task(title, total=steps)

    def step(self) -> None:
        """Moves the bar by one step."""
        if self._progress is not None:
            self._progress.advance(self._task)
            self._progress.refresh()

    def stop(self) -> None:
        """Removes the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def how_to_go_on(folder: str | Path, epochs: dict[str, int]) -> str:
    """Returns a sentence on what nnU-Net's option --c would go on from.

    Args:
        folder: of the fold.
        epochs: name of a checkpoint that this training has written or begun from -> epochs that it had done.
    """
    found = next((name for name in _CHECKPOINTS if Path(folder, name).is_file()), None)
    if found is None:
        return "there is no checkpoint yet: the same command begins anew, with --c, too"
    if found not in epochs:
        return f"with --c the same command goes on from {found}, which an earlier training in this folder has left"
    return f"with --c the same command goes on after epoch {epochs[found] - 1}, from {found}"
