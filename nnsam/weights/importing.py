"""Takes a checkpoint that is on this machine already, for example in a clone of MobileSAM, into the cache."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from nnsam.errors import WeightsError
from nnsam.weights import environment
from nnsam.weights.cache import cached_path, is_intact, locked, part_path
from nnsam.weights.spec import OFFICIAL, CheckpointSpec

_CHUNK = 1 << 20


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
            found = _copy(reader, copy)
            if found != spec.sha256:
                raise _another_file(source, f"SHA-256 {found}", spec.sha256, spec)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
        part_path(spec).unlink(missing_ok=True)
    return target


def _copy(reader: BinaryIO, target: Path) -> str:
    """Copies and returns the SHA-256 of what was written, so that the source cannot change in between."""
    digest = hashlib.sha256()
    with target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _another_file(source: Path, found: str, expected: str, spec: CheckpointSpec) -> WeightsError:
    return WeightsError(
        f"{source} is not the official {spec.name}: found {found}, expected {expected}; to use a fine-tuned encoder, "
        f"set {environment.WEIGHTS} to its path instead of importing it"
    )
