"""Volumes as stacks of TIFF pages, their spacing in a json file beside them."""

import io
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.io.nnunet_readers.base import ImageFile, ImageIO
from nnsam.support.files import atomic_file


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


_ENDINGS = (".tif", ".tiff")


class Tiff3DIO(ImageIO):
    """TIFF of several pages; the pixel size of `case_0000.tif` is under "spacing" (z, y, x) in `case.json`.

    Without that file the spacing is 1, with a warning.
    """

    def read_images(self, paths: Sequence[str | Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reads the files of one image; see `ImageIO.read_images`.

        Raises:
            InputError: also where the json file holds no spacing.

        Warns:
            NnsamWarning: there is no json file.
        """
        image, properties = super().read_images(paths)
        return image, {**properties, "spacing": _read_spacing(Path(paths[0]))}

    def _read(self, path: Path) -> ImageFile:
        if path.suffix.lower() not in _ENDINGS:
            raise InputError(f"{path} is no TIFF by its ending; this model reads {' or '.join(_ENDINGS)}.")
        pixels = read_tiff(path)
        if pixels.ndim != 3:
            raise InputError(
                f"{path} has {pixels.ndim} dimensions, shape {pixels.shape}; expected one stack of grey pages."
            )
        return ImageFile(pixels[None], (1, 1, 1))

    def _write(self, draft: Path, path: Path, labels: NDArray[np.integer], properties: Mapping[str, Any]) -> None:
        write_tiff(draft, labels, compression="zlib")
        # Before the label map takes its name, so that a label map without its spacing never exists.
        with atomic_file(path.with_suffix(".json")) as spacing:
            content = {"spacing": [float(value) for value in properties["spacing"]]}
            spacing.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _read_spacing(path: Path) -> tuple[float, ...]:
    side_file = path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")
    if not side_file.is_file():
        warnings.warn(
            f"{side_file} does not exist, so that {path.name} is taken to have pixels of 1 x 1 x 1 mm.",
            NnsamWarning,
            stacklevel=3,
        )
        return (1, 1, 1)
    try:
        content = json.loads(side_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f'{side_file} cannot be read ({error}); expected {{"spacing": [z, y, x]}}.') from error
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(map(_is_length, spacing)):
        raise InputError(
            f"{side_file} holds the spacing {spacing}; expected three numbers above 0, the pixel size of z, y, x in mm."
        )
    return tuple(spacing)


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
