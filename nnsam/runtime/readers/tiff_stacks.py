"""Volumes as stacks of TIFF pages, their spacing in a json file beside them."""

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.data.atomic import atomic_file
from nnsam.errors import InputError, NnsamWarning
from nnsam.runtime.readers.base import ImageFile, ImageIO
from nnsam.runtime.readers.tiff_pages import read_tiff, write_tiff

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
