"""A folder that replaces an older one only when it is complete."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnsam.data.atomic import atomic_folder
from nnsam.errors import InputError
from nnsam.runtime.bundle import is_bundle


@contextmanager
def replaced_folder(destination: str | Path, overwrite: bool) -> Iterator[Path]:
    """Gives an empty temporary folder that takes the name `destination` when the block ends without error.

    Args:
        destination: the bundle to make.
        overwrite: replace an older bundle there.

    Yields:
        The folder to write into.

    Raises:
        InputError: `destination` exists and is not to be replaced, or is something else than a bundle.
    """
    destination = Path(destination).absolute()
    filled = destination.exists() and not (destination.is_dir() and not any(destination.iterdir()))
    if not filled:
        with atomic_folder(destination) as folder:
            yield folder
        return
    if not is_bundle(destination):
        raise InputError(
            f"{destination} already exists and is no bundle; choose another output, nothing is overwritten"
        )
    if not overwrite:
        raise InputError(f"{destination} already exists; choose another output, or replace it with --overwrite")
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as holder:
        with atomic_folder(Path(holder, "new")) as folder:
            yield folder
        old = Path(holder, "old")
        os.replace(destination, old)
        try:
            os.replace(Path(holder, "new"), destination)
        except BaseException:
            os.replace(old, destination)
            raise
        shutil.rmtree(old, ignore_errors=True)
