"""What commands have in common: a bar for entries that are taken one by one, --json, warnings told as sentences."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from nnsam.errors import NnsamWarning
from nnsam.io.limits import DEFAULT as DEFAULT_VOXELS
from nnsam.io.limits import VARIABLE
from nnsam.support.files import atomic_file
from nnsam.support.outputs import check_outputs
from nnsam.support.text import shown

_Entry = TypeVar("_Entry")


def bar(entries: Sequence[_Entry], title: str = "Converting") -> Iterable[_Entry]:
    """The entries, with a progress bar on standard error while they are taken, if a person watches."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    return track(entries, title, console=screen, transient=True, disable=not screen.is_terminal)


def add_json(parser: argparse.ArgumentParser, what: str = "the result") -> None:
    """Adds --json, which means the same in every command, see :func:`json_report`."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help=f"print {what} as JSON, and nothing else on standard output; with FILE, write it there and print as usual",
    )


@contextmanager
def json_report(path: str | None) -> Iterator[Callable[[str], object]]:
    """Gives the function that takes the JSON text of a command's --json.

    Args:
        path: file, "-" for standard output, None where no JSON was asked for. A file is opened first, so that long work
            does not end at a path that cannot be written to, and appears if the block ends without error.

    Raises:
        InputError: the file exists: nothing is overwritten.
    """
    if path is None:
        yield lambda text: None
    elif path == "-":
        yield lambda text: print(text.rstrip("\n"))
    else:
        check_outputs([("--json", path)], (), overwrite=False, advice="choose another file, or remove it")
        with atomic_file(path) as draft:
            yield lambda text: draft.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


class _Folds(argparse.Action):
    """Takes folds in one word or several: 0,1 or 0 1."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        words = [values] if isinstance(values, str) else values
        setattr(namespace, self.dest, [fold for word in words for fold in word.split(",")])


def add_folds(parser: argparse.ArgumentParser, what: str, *, one_word: bool = False) -> None:
    """Adds --folds and --fold.

    Args:
        parser: of the command.
        what: help.
        one_word: --fold takes one word alone, so that what follows may be the model.
    """
    if one_word:
        parser.add_argument("--fold", dest="folds", action=_Folds, metavar="F[,F...]", help=what)
        parser.add_argument("--folds", action=_Folds, nargs="+", metavar="F", help="the same, in several words")
    else:
        parser.add_argument("--folds", "--fold", action=_Folds, nargs="+", metavar="F", help=what)


def add_voxel_limit(parser: argparse.ArgumentParser) -> None:
    """Adds --max-voxels to a command that reads images; `nnsam.cli.main` sets the limit while the command runs."""
    parser.add_argument(
        "--max-voxels",
        type=_count,
        metavar="N",
        help=f"refuse files that announce more values (default: ${VARIABLE}, else {DEFAULT_VOXELS})",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {shown(text)}")
    return int(text)


def prepare_streams() -> None:
    """Makes standard input, output and error usable whatever they were given as.

    A closed one is opened as nothing: the next file that is opened would take its number, and what a library prints
    would be written into that file. Characters that the output's encoding lacks are escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a test or a notebook put there
            stream.reconfigure(errors="backslashreplace")


class _Unbroken:
    """A stream whose reader may go away, as that of `nnsam ... | head`; what follows is dropped, and work goes on."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbroken_output() -> Iterator[None]:
    """Lets a command end its work, with its own exit code, though nobody reads what it prints any more."""
    before = sys.stdout, sys.stderr
    streams: Any = [None if stream is None else _Unbroken(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in filter(None, streams):
            stream.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def told_warnings(command: str) -> Iterator[None]:
    """Prints warnings as sentences of a command, without the places in this package that they came from.

    This package's own reach the user whatever PYTHONWARNINGS says: they tell what a mask does not show. What is told
    of a file that is read twice is printed once.
    """
    told: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if str(message) not in told:
            print(f"nnsam {command}: {message}", file=sys.stderr)
        told.add(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's about other packages, on import
        warnings.filterwarnings("always", category=NnsamWarning)
        yield
