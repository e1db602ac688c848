"""Folders and files that appear complete or not at all, whatever interrupts the writing; JSON; SHA-256 of files."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.support.concurrency import uninterrupted
from nnsam.support.drafts import NEW, OLD, draft_of, exchange, recover, temporary_folder, to_disk
from nnsam.support.text import clipped

_BLOCK = 1 << 20


@contextmanager
def atomic_folder(destination: str | Path, durable: bool = False) -> Iterator[Path]:
    """Gives an empty temporary folder beside `destination` that takes its name when the block ends without error.

    On any error, Ctrl-C included, the temporary folder is removed and `destination` is as it was before; what a killed
    process leaves, the next one removes.

    Args:
        destination: folder to create; its parents are made. It may exist, but only empty.
        durable: wait until its files are on the disk, before it gets its name.

    Yields:
        The folder to write into.

    Raises:
        InputError: `destination` is a file or a folder that holds something.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "result"
        >>> with atomic_folder(target) as folder:
        ...     _ = (folder / "a.txt").write_text("complete")
        >>> [path.name for path in target.iterdir()]
        ['a.txt']
    """
    destination = Path(destination).absolute()
    recover(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} already exists and is not an empty folder; choose another one or remove it.")
    with draft_of(destination, is_folder=True) as holder:
        folder = holder / destination.name  # in a private folder, so that it has the user's own mode
        folder.mkdir()
        yield folder
        if durable:
            to_disk(folder)
        if destination.is_dir():
            _remove_empty(destination)  # Windows does not replace a folder by a folder
        try:
            os.replace(folder, destination)
        except OSError as error:
            raise InputError(
                f"{destination} cannot be made ({error.strerror or error}); does another program write it now?"
            ) from error


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder} was filled by another program meanwhile ({error.strerror or error}).") from error


@contextmanager
def replaced_folder(destination: str | Path) -> Iterator[Path]:
    """As :func:`atomic_folder`, but `destination` may hold something, which stays until the block has ended well.

    The caller has looked at what it holds: nothing of it is kept. At every moment there is the old folder or the new
    one: they are swapped in one step. Where the disk cannot do that, there are two; what is killed between them is
    finished when the folder is next looked for, see :func:`nnsam.support.drafts.recover`. What is complete is on the
    disk before it gets its name.

    Raises:
        InputError: `destination` is a file, or cannot be replaced.
    """
    destination = Path(os.path.realpath(destination))  # a link stays one
    recover(destination)
    if not destination.is_dir():
        with atomic_folder(destination, durable=True) as folder:
            yield folder
        return
    with draft_of(destination, is_folder=True) as holder:
        new, old = holder / NEW, holder / OLD
        with atomic_folder(new, durable=True) as folder:
            yield folder
        if exchange(new, destination):
            return
        try:
            with uninterrupted():
                os.replace(destination, old)
                try:
                    os.replace(new, destination)
                except BaseException:
                    os.replace(old, destination)
                    raise
        except OSError as error:
            raise InputError(f"{destination} cannot be replaced ({error.strerror or error}).") from error


# Names of this process's open files; behind them a shell may have put a file, which is not theirs to replace.
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")


def is_passed_through(destination: Path) -> bool:
    """Whether what is written there is passed on, to a pipe, a device or an open file, and replaces nothing."""
    destination = destination.absolute()
    is_special = destination.exists() and not destination.is_file() and not destination.is_dir()
    return is_special or str(destination).startswith(_STREAMS)


_noting: ContextVar[Callable[[Path, Path], object] | None] = ContextVar("noting", default=None)


@contextmanager
def before_replacing(note: Callable[[Path, Path], object]) -> Iterator[None]:
    """Has a function told of every file that this thread writes in the block, just before it gets its name.

    Args:
        note: called with the destination and the complete file that is to become it; what it raises keeps that away.
    """
    token = _noting.set(note)
    try:
        yield
    finally:
        _noting.reset(token)


@contextmanager
def atomic_file(destination: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `destination` that replaces it when the block ends without error.

    What is no file, such as a pipe or /dev/stdout, is written to when the block has ended, and stays what it is.

    Args:
        destination: file to create or to replace; its parents are made.

    Yields:
        The path to write to; its name ends as `destination`'s does, since some writers choose the format by it.

    Raises:
        InputError: `destination` is a folder, or its parent cannot be written to.
    """
    destination = Path(destination).absolute()
    if destination.is_dir():
        raise InputError(f"{destination} is a folder; give the name of a file.")
    if is_passed_through(destination):
        with _through(destination) as passed:
            yield passed
        return
    with draft_of(destination) as temporary:
        yield temporary
        to_disk(temporary)  # else a power cut may leave an empty file under the name
        note = _noting.get()
        if note is not None:
            note(destination, temporary)
        os.replace(temporary, destination)


@contextmanager
def _through(device: Path) -> Iterator[Path]:
    """Gives a temporary path whose content is passed on to a device or pipe."""
    with temporary_folder() as folder:
        temporary = folder / device.name
        temporary.touch()
        yield temporary
        try:
            with temporary.open("rb") as content, device.open("ab") as target:
                shutil.copyfileobj(content, target)
        except OSError as error:
            raise InputError(f"{device} cannot be written ({error.strerror or error}).") from error


# JSON files of others, bundles, model folders and boxes of a million objects among them, have less than this.
JSON_BYTES = 64 * 2**20
JSON_LEVELS = 100
# Whole numbers of more digits than any field holds; arithmetic with them overflows far from here.
_JSON_DIGITS = 40
_JSON_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says, within limits that keep hostile texts from filling the memory or the stack.

    Args:
        text: bytes are UTF-8, with or without a byte order mark.

    Raises:
        ValueError: no JSON, not UTF-8, longer than 64 MiB, of more than 100 levels, or with a whole number of more than
            40 digits.

    Example:
        >>> parse_json(b'{"a": [1]}')
        {'a': [1]}
    """
    if len(text) > JSON_BYTES:
        raise ValueError(f"it is longer than {JSON_BYTES // 2**20} MiB")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError("its text is not in UTF-8") from None
    if text.count("[") + text.count("{") > JSON_LEVELS:
        _check_levels(text)
    return json.loads(text, parse_int=_whole_number)


def _check_levels(text: str) -> None:
    level = 0
    for found in _JSON_MARKS.finditer(text):
        mark = found[0]
        level += 1 if mark in "[{" else -1 if mark in "]}" else 0
        if level > JSON_LEVELS:
            raise ValueError(f"it has more than {JSON_LEVELS} levels of lists and objects")


def _whole_number(text: str) -> int:
    if len(text) > _JSON_DIGITS:
        raise ValueError(f"it holds a whole number of {len(text)} digits")
    return int(text)


def load_json(path: str | Path) -> Any:
    """What a JSON file says; see `parse_json`, and `read_json` for one that raises sentences.

    Raises:
        OSError: the file cannot be read.
        ValueError: see `parse_json`.
    """
    with open(path, "rb") as file:
        return parse_json(file.read(JSON_BYTES + 1))


def read_json(path: str | Path, expected: str, missing: str | None = None) -> Any:
    """Reads a JSON file, with or without the byte order mark that editors of Windows write.

    Args:
        path: the file.
        expected: end of the sentence that says that the file cannot be read: what was expected, or what to do.
        missing: the sentence where there is no such file; None for that of any unreadable file.

    Raises:
        InputError: no such file, an unreadable one, no JSON, or beyond the limits of `parse_json`.
    """
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        if missing is not None and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(missing) from None
        reason = clipped(getattr(error, "strerror", None) or error)
        raise InputError(f"{path} cannot be read as JSON ({reason}); {expected}") from error


def write_json(path: str | Path, content: Any, *, indent: int = 1, end: str = "\n", allow_nan: bool = True) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        path: file to create or to replace; its parents are made.
        content: what JSON can hold.
        indent: spaces per level.
        end: what follows the last brace.
        allow_nan: write values that are not finite, which other programs may not read.

    Raises:
        InputError: it cannot be written there.
        ValueError: a value that is not finite, without `allow_nan`.
    """
    text = json.dumps(content, indent=indent, allow_nan=allow_nan) + end
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sha256_of_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, lower-case hexadecimal; the file is read in blocks."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
