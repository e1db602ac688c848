"""TIFF files read and written by tifffile, complete or not at all."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError


def read_tiff(path: Path) -> NDArray:
    """Reads the pages of a TIFF as tifffile arranges them.

    Raises:
        InputError: the file is cut off after some of its pages; tifffile gives those without a word.
        SetupError: its compression needs a package that is missing.
        Exception: whatever tifffile raises about a damaged file.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        _check_page_chain(path, tiff)
        try:
            return tiff.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise SetupError(
                f"{path} is compressed in a way that needs the package imagecodecs; `pip install imagecodecs`, or save "
                "it uncompressed or with deflate"
            ) from error


def write_tiff(draft: Path, labels: NDArray[np.integer], compression: str | None) -> None:
    """Writes (y, x) or (z, y, x) labels as grey pages.

    Raises:
        OSError: the file cannot be written completely.
    """
    import tifffile

    content = io.BytesIO()  # written to a file itself, tifffile does not notice a full disk
    tifffile.imwrite(content, labels, compression=compression, photometric="minisblack")
    draft.write_bytes(content.getbuffer())


def _check_page_chain(path: Path, tiff: Any) -> None:
    """Follows the offsets from page to page; layout of a page's directory: TIFF 6.0 section 2, and BigTIFF."""
    file, order = tiff.filehandle, tiff.byteorder
    count_type, entry, offset_type = ("u8", 20, "u8") if tiff.is_bigtiff else ("u2", 12, "u4")
    offset = tiff.pages.first.offset
    visited: set[int] = set()
    while offset:
        if offset in visited or offset >= file.size:
            raise InputError(f"{path} is cut off or damaged after {len(visited)} pages; copy or export it again.")
        visited.add(offset)
        entries = _number(file, offset, order + count_type)
        offset = _number(file, offset + np.dtype(count_type).itemsize + entry * entries, order + offset_type)


def _number(file: Any, offset: int, kind: str) -> int:
    file.seek(offset)
    return int(np.frombuffer(file.read(np.dtype(kind).itemsize), kind)[0])
