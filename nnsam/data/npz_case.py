"""One case in the npz layout of the "Segment Anything in Medical Images on Laptop" challenge."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError


@dataclass(frozen=True)
class NpzCase:
    """Image and labels of one case.

    Attributes:
        name: file name without ending.
        image: (H, W), (D, H, W), or with a last axis of three colours; any real type.
        labels: (H, W) or (D, H, W), non-negative integers.
        spacing_xyz: pixel size in mm in the file's own order, (x, y) or (x, y, z); None where the file has none.
        instances: shape of `labels`, 0 the background, every other value one object; None where the file has none or
            was read without.
    """

    name: str
    image: NDArray
    labels: NDArray[np.integer]
    spacing_xyz: tuple[float, ...] | None
    instances: NDArray[np.integer] | None = None

    @property
    def channels(self) -> int:
        """3 for colour, else 1."""
        return 3 if self.image.ndim > self.labels.ndim else 1


def read_npz_case(path: Path, *, with_instances: bool = False) -> NpzCase:
    """Reads keys `imgs`, `gts` and, where present, `spacing`. Pickled objects are never loaded.

    Args:
        path: the file.
        with_instances: reads `inst` too, where present.

    Raises:
        InputError: unreadable, a key missing, or arrays that do not fit together.
    """
    arrays = load_arrays(path, ("imgs", "gts", "spacing", *(("inst",) if with_instances else ())))
    missing = [key for key in ("imgs", "gts") if key not in arrays]
    if missing:
        raise InputError(f"{path} lacks the key {' and '.join(missing)}.")
    image, labels = arrays["imgs"], arrays["gts"]
    _check_image(path, image, labels)
    instances = arrays.get("inst")
    if instances is not None and instances.shape != labels.shape:
        raise InputError(f"{path}: inst has the shape {instances.shape}, gts {labels.shape}; they must be the same.")
    return NpzCase(
        path.stem,
        image,
        _checked_labels(path, labels, "gts"),
        checked_spacing(path, arrays.get("spacing"), labels.ndim),
        None if instances is None else _checked_labels(path, instances, "inst"),
    )


def load_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray]:
    """Returns the arrays of an npz file under the given keys, as far as it has them; others are not even read.

    Raises:
        InputError: not an npz file, damaged, or with pickled objects, which are never loaded.
    """
    if path.is_file() and not zipfile.is_zipfile(path):  # np.load would accept a bare array, or a pickle
        raise InputError(f"{path} is not an npz archive, or it is cut off.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys if key in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path} holds pickled Python objects, which could run code and are not loaded."
            ) from error
        raise InputError(f"{path} cannot be read ({error}).") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def _check_image(path: Path, image: NDArray, labels: NDArray) -> None:
    is_colour = image.ndim == labels.ndim + 1 and image.shape[-1] == 3
    if (
        labels.ndim not in (2, 3)
        or image.shape[: labels.ndim] != labels.shape
        or not (image.ndim == labels.ndim or is_colour)
    ):
        raise InputError(
            f"{path}: imgs and gts do not fit together, shapes {image.shape} and {labels.shape}; expected (H, W), "
            "(D, H, W), or imgs with a last axis of 3."
        )
    if image.size == 0 or not (np.issubdtype(image.dtype, np.number) or image.dtype == bool) or np.iscomplexobj(image):
        raise InputError(f"{path}: imgs must hold real numbers; found {image.dtype}, shape {image.shape}.")
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise InputError(f"{path}: imgs holds values that are nan or infinite.")


def _checked_labels(path: Path, labels: NDArray, key: str) -> NDArray[np.integer]:
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() > 65535:
        raise InputError(f"{path}: {key} must hold whole numbers from 0 to 65535; found {labels.dtype}.")
    return labels


def checked_spacing(path: Path, spacing: NDArray | None, ndim: int) -> tuple[float, ...] | None:
    """Returns the key `spacing` of a file as `ndim` positive numbers in the file's own order, (x, y[, z]), or None.

    Raises:
        InputError: something else.
    """
    if spacing is None:
        return None
    values = tuple(float(value) for value in np.atleast_1d(spacing).ravel())
    if len(values) == 3 and ndim == 2:  # the challenge gives pictures (1, 1, 1)
        values = values[:2]
    if len(values) != ndim or not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(f"{path}: spacing must hold {ndim} positive numbers; found {values}.")
    return values
