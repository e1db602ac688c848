"""Unfinished files and folders beside their destinations, under names of chance, which the next run removes if killed.

A draft is locked for as long as the process that writes it lives, whatever ends it, so that one that is not locked is
stale. Where there are no such locks (Windows, some network file systems), and for drafts of other machines, one that
was not touched for a day is.
"""

import ctypes
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnsam.errors import InputError
from nnsam.support.concurrency import uninterrupted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_NAME = re.compile(r"\.nnsam-([0-9a-f]{6})-[0-9a-f]{12}\.(.+)")
_LONGEST_NAME = 255  # bytes
_OLD_SECONDS = 24 * 3600
# What a full disk, a used up quota and a limit on the size of files answer.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# In the draft of a folder that replaces another one: the complete new one, and what it replaces.
NEW, OLD = ".new", ".old"

_tidied: set[Path] = set()


@contextmanager
def draft_of(destination: Path, is_folder: bool = False) -> Iterator[Path]:
    """Gives an empty draft beside a destination, whose parents are made; what is left of it is removed in the end.

    A folder is private; that of a file ends as `destination` does. Stale drafts of earlier runs in the same place are
    removed.

    Raises:
        InputError: there cannot be written, or the disk was found full in the block.
    """
    made: list[tuple[Path, int | None]] = []
    try:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            if destination.parent not in _tidied:
                _tidied.add(destination.parent)
                remove_stale_drafts(destination.parent)
            with uninterrupted():
                made.append(_make(destination, is_folder))
        except OSError as error:
            raise InputError(f"{destination} cannot be written ({error.strerror or error}).") from error
        yield made[0][0]
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise InputError(
            f"{destination} cannot be written ({error.strerror}): the disk is full; free space or name another disk."
        ) from error
    finally:
        with uninterrupted():
            for draft, lock in made:
                _remove(draft)
                if lock is not None:
                    os.close(lock)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gives a private folder for temporary files, which is removed in the end, or by the next run of any command."""
    with draft_of(Path(tempfile.gettempdir(), "tmp"), is_folder=True) as folder:
        yield folder


def destination_name(draft: Path) -> str | None:
    """The name that a draft was to get, or its end where that was too long; None for what is no draft."""
    found = _NAME.fullmatch(draft.name)
    return found and found[2]


def remove_stale_drafts(folder: Path) -> None:
    """Removes what killed processes left in a folder; what belongs to others, or is still written, stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        drafts = [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name)]
        for draft in drafts:
            with suppress(OSError):
                _remove_if_stale(draft)


def recover(destination: Path) -> None:
    """Finishes the replacement of a folder that was killed between its two steps, see `replaced_folder`."""
    if os.path.lexists(destination):
        return
    with suppress(OSError), os.scandir(destination.parent) as entries:
        drafts = [Path(entry.path) for entry in entries if destination_name(Path(entry.path)) == destination.name]
        for draft in drafts:
            with suppress(BlockingIOError):
                lock = _lock(draft)
                _finish_replacement(draft)
                if lock is not None:
                    os.close(lock)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two folders in a single step; returns False where the system or the disk cannot."""
    first_name, second_name = os.fsencode(first), os.fsencode(second)
    if sys.platform not in ("linux", "darwin"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    with suppress(AttributeError):  # an old or another C library
        if sys.platform == "darwin":
            return library.renamex_np(first_name, second_name, 2) == 0
        here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return library.renameat2(here, first_name, here, second_name, swap) == 0
    return False


def to_disk(path: Path) -> None:
    """Waits until a file, or all files of a folder, would outlast a power cut."""
    if not path.is_dir():
        _sync(path)
        return
    for parent, _, names in os.walk(path):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    is_folder = path.is_dir()
    if not hasattr(os, "O_DIRECTORY") and is_folder:
        return  # Windows opens no folders
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Full disks tell it here at the latest; file systems that know no such thing say so, too.
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)


def _make(destination: Path, is_folder: bool) -> tuple[Path, int | None]:
    while True:
        draft = destination.with_name(_name(destination.name))
        if is_folder:
            draft.mkdir(mode=0o700)
        else:
            draft.touch(exist_ok=False)
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(draft)
            if draft.exists():
                return draft, lock
            if lock is not None:
                os.close(lock)
        # Another process has found it before it was locked, and removes it.


def _name(name: str) -> str:
    start = f".nnsam-{_MACHINE}-{secrets.token_hex(6)}."
    while len(os.fsencode(start + name)) > _LONGEST_NAME:
        name = name[1:]
    return start + name


def _lock(draft: Path) -> int | None:
    """Locks a draft until the descriptor is closed or this process ends; returns None where there are no locks.

    Raises:
        BlockingIOError: another one has it.
        FileNotFoundError: it is gone.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW if draft.is_dir() else os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _remove_if_stale(draft: Path) -> None:
    """Removes a draft, which it keeps locked meanwhile; a replacement that it holds is finished first."""
    status = draft.lstat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return
    lock = _lock(draft)
    is_old = time.time() - status.st_mtime > _OLD_SECONDS
    if is_old or (lock is not None and draft.name.startswith(f".nnsam-{_MACHINE}-")):
        _finish_replacement(draft)
        _remove(draft)
    if lock is not None:
        os.close(lock)


def _finish_replacement(draft: Path) -> None:
    destination = draft.with_name(destination_name(draft) or draft.name)
    if (draft / OLD).is_dir() and not os.path.lexists(destination):
        os.replace(draft / NEW if (draft / NEW).is_dir() else draft / OLD, destination)


def _remove(draft: Path) -> None:
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
