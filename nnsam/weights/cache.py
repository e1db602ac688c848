"""The one checkpoint that this package fetches, and its cache on disk: paths, hashes, the lock, importing a copy.

Layout of `<home>/weights`: `mobile_sam.pt` (verified; it gets this name by :func:`os.replace` only),
`mobile_sam.pt.part` (a broken-off download that the next one continues) and `mobile_sam.pt.lock`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from nnsam.errors import WeightsError
from nnsam.support import environment
from nnsam.support.files import sha256_of_file

_CHUNK = 1 << 20
_REPOSITORY = "https://github.com/ChaoningZhang/MobileSAM"


@dataclass(frozen=True)
class CheckpointSpec:
    """A file that is known byte for byte.

    Attributes:
        name: File name in the cache.
        size: Length in bytes.
        sha256: SHA-256 of the content, lower-case hexadecimal.
        urls: Addresses of the file, tried in this order.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


# The commit's address comes first because it cannot change; the branch's is for the day when the commit is gone.
OFFICIAL = CheckpointSpec(
    name="mobile_sam.pt",
    size=40_728_226,
    sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    urls=(
        f"{_REPOSITORY}/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        f"{_REPOSITORY}/raw/master/weights/mobile_sam.pt",
    ),
)


def addresses(spec: CheckpointSpec, mirror: str | None = None) -> tuple[str, ...]:
    """Returns the addresses to try: the mirror alone where one is given (here or in NNSAM_WEIGHTS_URL).

    Whoever names a mirror may be in a network where asking GitHub as well only costs time, or is not wanted.
    """
    mirror = mirror or environment.mirror()
    if mirror is None:
        return spec.urls
    return (mirror + spec.name if mirror.endswith("/") else mirror,)


def shown(url: str) -> str:
    """Returns an address without what may be secret: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address given"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


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
    try:
        return sha256_of_file(path)
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


def import_file(path: str | os.PathLike[str], spec: CheckpointSpec = OFFICIAL) -> Path:
    """Copies the official checkpoint into the cache.

    Args:
        path: A file with exactly the official content.
        spec: The file that is expected.

    Returns:
        The path in the cache.

    Raises:
        WeightsError: The file is missing, unreadable or not the official one, or the cache cannot be written.
    """
    source = Path(path).expanduser()
    if not os.path.isfile(source):
        raise WeightsError(f"{source} is {'a folder' if source.is_dir() else 'missing'}, expected a checkpoint file")
    size = source.stat().st_size
    if size != spec.size:
        raise _another_file(source, f"{size:,} bytes", f"{spec.size:,}", spec)
    if is_intact(cached_path(spec), spec) and source.samefile(cached_path(spec)):
        return cached_path(spec)
    try:
        reader = source.open("rb")
    except OSError as error:
        raise WeightsError(f"cannot read {source}: {error.strerror or error}") from error
    with reader, locked(spec) as target:
        copy = target.with_name(f"{target.name}.import")
        try:
            with copy.open("wb") as writer:
                shutil.copyfileobj(reader, writer)
            found = sha256_of(copy)  # and not of the source, which may change meanwhile
            if found != spec.sha256:
                raise _another_file(source, f"SHA-256 {found}", spec.sha256, spec)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
        part_path(spec).unlink(missing_ok=True)
    return target


def _another_file(source: Path, found: str, expected: str, spec: CheckpointSpec) -> WeightsError:
    return WeightsError(
        f"{source} is not the official {spec.name}: found {found}, expected {expected}; to use a fine-tuned encoder, "
        f"set {environment.WEIGHTS} to its path instead of importing it"
    )
