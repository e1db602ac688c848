"""The cache on disk: paths, hashes, the lock between processes, one sentence for a folder that cannot be written.

Layout of `<home>/weights`: `mobile_sam.pt` (verified; it gets this name by :func:`os.replace` only),
`mobile_sam.pt.part` (a broken-off download that the next one continues) and `mobile_sam.pt.lock`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnsam.errors import WeightsError
from nnsam.weights import environment
from nnsam.weights.spec import OFFICIAL, CheckpointSpec


def cached_path(spec: CheckpointSpec = OFFICIAL) -> Path:
    """Returns where the checkpoint lies once it has been fetched or imported."""
    return environment.home() / "weights" / spec.name


def part_path(spec: CheckpointSpec = OFFICIAL) -> Path:
    """Returns where a download is kept until it is complete."""
    path = cached_path(spec)
    return path.with_name(path.name + ".part")


def file_size(path: Path) -> int:
    """Returns the length in bytes, 0 where there is no such file."""
    # os.path.isfile, unlike Path.is_file, also takes a folder that may not be entered for an absent file.
    return path.stat().st_size if os.path.isfile(path) else 0


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, lower-case hexadecimal.

    Raises:
        WeightsError: The file cannot be read.
    """
    import pooch

    try:
        return pooch.file_hash(str(path), alg="sha256")
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def is_intact(path: Path, spec: CheckpointSpec = OFFICIAL) -> bool:
    """Tells whether a file exists and is the specified one byte for byte."""
    return file_size(path) == spec.size and sha256_of(path) == spec.sha256


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns what the operating system says about a read-only or full folder into one sentence.

    Raises:
        WeightsError: The body raised an :class:`OSError`.
    """
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache folder {folder} ({error.strerror or error}): make room there, or set "
            f"{environment.HOME} to a folder that can be written"
        ) from error


@contextmanager
def locked(spec: CheckpointSpec, on_wait: Callable[[], None] | None = None) -> Iterator[Path]:
    """Makes the cache folder and holds its lock, so that one process at a time changes what is in it.

    Args:
        spec: The checkpoint.
        on_wait: Called once when another process holds the lock; the wait follows.

    Yields:
        The final path of the checkpoint.

    Raises:
        WeightsError: The folder cannot be made or written, here or in the body.
    """
    from filelock import FileLock, Timeout

    path = cached_path(spec)
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path) + ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
        try:
            yield path
        finally:
            lock.release()
