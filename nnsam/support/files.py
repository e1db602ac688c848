"""Folders and files that appear complete or not at all, whatever interrupts the writing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnsam.errors import InputError


@contextmanager
def atomic_folder(destination: str | Path) -> Iterator[Path]:
    """Gives an empty temporary folder beside `destination` that takes its name when the block ends without error.

    On any error, Ctrl-C included, the temporary folder is removed and `destination` is as it was before.

    Args:
        destination: folder to create; its parents are made. It may exist, but only empty.

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
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} already exists and is not an empty folder; choose another one or remove it.")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp's folder is private (mode 700), so that the result is a folder inside it, with the user's own mode.
        holder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise InputError(f"{destination.parent} cannot be written to ({error.strerror or error}).") from error
    try:
        folder = holder / destination.name
        folder.mkdir()
        yield folder
        if destination.is_dir():
            destination.rmdir()  # empty; Windows does not replace a folder by a folder
        os.replace(folder, destination)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


@contextmanager
def atomic_file(destination: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `destination` that replaces it when the block ends without error.

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
    temporary = destination.with_name(f".{os.getpid()}.{destination.name}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise InputError(f"{destination} cannot be written ({error.strerror or error}).") from error
    try:
        yield temporary
        os.replace(temporary, destination)
    finally:
        temporary.unlink(missing_ok=True)
