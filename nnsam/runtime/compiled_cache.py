"""Networks as OpenVINO compiled them, on disk, so that the next process starts sooner.

OpenVINO has a cache of its own (CACHE_DIR), which is not used, for three reasons found with version 2026.4: it takes a
network that was compiled for float32 for the bfloat16 one, and crashes; it does not notice damaged weights in its
files; and it keeps a second copy of all weights. Here, files hold no weights (these stay in the bundle), carry a
checksum, appear complete or not at all, and are told apart by everything that compilation depends on.

Where it is: `compiled` in the folder NNSAM_HOME, or in the user's cache folder. Rule for its size: at most
:data:`LIMIT` bytes; what has not been used for longest goes first.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from nnsam.data.atomic import atomic_file
from nnsam.errors import NnsamError, NnsamWarning

LIMIT = 2**29
_CHECKSUM = 32  # bytes of SHA-256 in front


def default_cache_dir() -> Path:
    """Returns `compiled` in NNSAM_HOME, or in the platform's user cache folder."""
    from nnsam.weights.environment import home

    return home() / "compiled"


class CompiledCache:
    """Bytes by key in a folder; damaged and unreadable entries count as absent.

    Safe for several processes: files are only ever replaced as a whole.

    Args:
        folder: made when first needed. A folder that cannot be written to gives one warning, no error.
        limit: bytes of all entries together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder, self.limit = folder, limit
        self._warned = False

    def load(self, key: str) -> bytes | None:
        """Returns what was stored, or None."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_CHECKSUM:]).digest() != content[:_CHECKSUM]:
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return content[_CHECKSUM:]

    def store(self, key: str, make: Callable[[], bytes]) -> None:
        """Stores what `make` returns, and removes what is too much."""
        try:
            with atomic_file(self._path(key)) as draft:
                content = make()
                draft.write_bytes(hashlib.sha256(content).digest() + content)
            self._shrink()
        except (OSError, RuntimeError, NnsamError) as error:  # RuntimeError: OpenVINO's
            self._warn(error)

    def remove(self, key: str) -> None:
        """Forgets an entry."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _shrink(self) -> None:
        entries = []
        for path in self.folder.glob("*.blob"):
            with contextlib.suppress(OSError):  # another process removed it
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > self.limit:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            message = str(error).strip().splitlines()[-1].rstrip(".") if str(error).strip() else type(error).__name__
            warnings.warn(
                f"compiled networks cannot be kept in {self.folder} ({message}), so every start takes a little longer; "
                "set NNSAM_HOME to a folder that can be written to",
                NnsamWarning,
                stacklevel=4,
            )
