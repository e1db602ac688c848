"""How large an image may be once it is decoded; asked before memory is taken for it, since headers may say anything."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnsam.errors import InputError
from nnsam.support.text import shown

# An environment variable, so that threads and processes that a command starts know the limit, too.
VARIABLE = "NNSAM_MAX_VOXELS"
# A whole-body CT of 1024 x 1024 x 2000 voxels.
DEFAULT = 2**31
# Deflate's best: a code of 1 bit for a length and one for a distance stand for 258 bytes.
DEFLATE_RATIO = 1032


def max_voxels() -> int:
    """The most values that an image may hold: the environment's NNSAM_MAX_VOXELS, or else 2^31.

    Raises:
        InputError: the variable holds no whole number above 0.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise InputError(f"the environment variable {VARIABLE} is {shown(text)}; expected a whole number above 0.")
    return int(text)


@contextmanager
def allowing_voxels(limit: int | None) -> Iterator[None]:
    """Sets the limit for what is read in the block, in this process and those that it starts; None leaves it.

    Example:
        >>> with allowing_voxels(1000):
        ...     max_voxels()
        1000
    """
    before = os.environ.get(VARIABLE)
    if limit is not None:
        os.environ[VARIABLE] = str(limit)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def check_voxels(path: str | Path, shape: Sequence[int]) -> None:
    """Refuses a file that announces more values than are allowed.

    Args:
        path: for the message.
        shape: of the decoded array, all axes, colours included.

    Raises:
        InputError: more than `max_voxels`.
    """
    count, limit = math.prod(map(int, shape)), max_voxels()
    if count > limit:
        raise InputError(
            f"{path} announces {' x '.join(map(shown, shape))} values, which are more than the limit of {limit}; if it "
            f"is really that large, raise the limit by --max-voxels or the environment variable {VARIABLE}."
        )


def check_stored(path: Path, expected: int, ratio: int = 1) -> None:
    """Refuses a file that announces more bytes than it can hold.

    Args:
        path: the file.
        expected: bytes of its pixels once they are decoded.
        ratio: how many bytes a stored one can stand for, `DEFLATE_RATIO` where it is compressed.

    Raises:
        InputError: it is shorter.
    """
    stored = path.stat().st_size
    if expected > stored * ratio:
        what = f"it holds {stored} bytes, its header announces {shown(expected)}"
        if ratio > 1:
            what = f"its header announces {shown(expected)} bytes, more than it can hold"
        raise InputError(f"{path} is cut off: {what}; copy or export it again.")
