"""One case in the npz layout of the "Segment Anything in Medical Images on Laptop" challenge."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.image import Image, make_image, make_labels, reason_of
from nnsam.io.limits import DEFLATE_RATIO, check_stored, check_voxels
from nnsam.support.text import shown


@dataclass(frozen=True, eq=False)
class NpzCase:
    """Image and labels of one case.

    Attributes:
        name: file name without ending.
        image: as the file has it: (H, W), (D, H, W), or with a last axis of three colours; of any real type.
        labels: (H, W) or (D, H, W), non-negative integers.
        instances: shape of `labels`, 0 the background, every other value one object; None where the file has none or
            was read without.
    """

    name: str
    image: Image
    labels: NDArray[np.integer]
    instances: NDArray[np.integer] | None = None


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
    pixels, labels = _without_channel(arrays["imgs"]), _without_channel(arrays["gts"])
    _check_image(path, pixels, labels)
    instances = None if "inst" not in arrays else _without_channel(arrays["inst"])
    if instances is not None and instances.shape != labels.shape:
        raise InputError(f"{path}: inst has the shape {instances.shape}, gts {labels.shape}; they must be the same.")
    spacing = _spacing(path, arrays.get("spacing"), labels.ndim)
    return NpzCase(
        path.stem,
        Image(pixels, labels.ndim, spacing, kind="npz", path=path),
        _checked_labels(path, labels, "gts"),
        None if instances is None else _checked_labels(path, instances, "inst"),
    )


def _without_channel(array: NDArray) -> NDArray:
    """Pictures and volumes whose only channel was kept as an axis, without it."""
    return array[..., 0] if array.ndim in (3, 4) and array.shape[-1] == 1 else array


def load_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray]:
    """Returns the arrays of an npz file under the given keys, as far as it has them; others are not even read.

    Raises:
        InputError: not an npz file, damaged, with pickled objects, which are never loaded, or with more values than are
            allowed, or than the file holds.
    """
    if path.is_file() and not zipfile.is_zipfile(path):  # np.load would accept a bare array, or a pickle
        raise InputError(f"{path} is not an npz archive, or it is cut off.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = [key for key in keys if key in archive.files]
            for key in wanted:
                _check_member(path, archive.zip, key)
            return {key: archive[key] for key in wanted}
    except InputError:
        raise
    except Exception as error:  # a damaged archive makes zipfile and numpy raise anything
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise InputError(
                f"{path} holds pickled Python objects, which could run code and are not loaded."
            ) from error
        raise InputError(f"{path} cannot be read ({reason_of(error)}).") from error


def _check_member(path: Path, archive: zipfile.ZipFile, key: str) -> None:
    """Compares the shape that an array's header announces with the length of the array's member of the archive."""
    names = archive.namelist()
    info = archive.getinfo(f"{key}.npy" if f"{key}.npy" in names else key)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path} holds {key} in a compression that numpy does not write; save it by numpy.")
    check_stored(path, info.file_size, DEFLATE_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1)
    with archive.open(info) as member:
        if member.read(6) != np.lib.format.MAGIC_PREFIX:
            raise InputError(f"{path} cannot be read ({key} is no array).")
        member.seek(0)
        version = np.lib.format.read_magic(member)
        read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"{path} holds {key} in a version of numpy's format that numbers do not need.")
        shape, _, dtype = read(member)
        start = member.tell()
    if dtype.hasobject:
        raise InputError(f"{path} holds pickled Python objects, which could run code and are not loaded.")
    check_voxels(path, shape)
    expected = start + math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or info.file_size != expected:
        raise InputError(
            f"{path} is damaged: {key} has the shape {shown(shape)}, which are {shown(expected)} bytes, and holds "
            f"{info.file_size}; save it again."
        )


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


def _spacing(path: Path, spacing: NDArray | None, ndim: int) -> tuple[float, ...] | None:
    """The key `spacing`, `ndim` positive numbers in the order x, y[, z], in array order."""
    if spacing is None:
        return None
    values = tuple(float(value) for value in np.atleast_1d(spacing).ravel())
    if len(values) == 3 and ndim == 2:  # the challenge gives pictures (1, 1, 1)
        values = values[:2]
    if len(values) != ndim or not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(f"{path}: spacing must hold {ndim} positive numbers; found {values}.")
    return values[::-1]


_NO_BOXES = "holds no boxes; add the key boxes, (N, 4) or (N, 6), or give --box or --boxes"
_ONLY_LABELS = (
    "holds gts but no boxes; save the boxes of its objects under the key boxes, or give --box or --boxes, which takes "
    "a label image too"
)


def read_npz_image(path: Path) -> Image:
    """Reads the keys `imgs` and, where present, `boxes` and `spacing` (x, y[, z]). Pickled objects are never loaded.

    `imgs` of three axes is a volume (D, H, W) or, with a last axis of 3, a colour picture; where both are possible,
    the number of values per box decides, then the axes of `gts`, then it is a picture. A last axis of 1 is that of the
    only channel.

    Raises:
        InputError: unreadable, pickled objects, no `imgs`, or neither a picture nor a volume.
    """
    arrays = load_arrays(path, ("imgs", "boxes", "spacing"))
    if "imgs" not in arrays:
        raise InputError(f"{path} lacks the key imgs, the image; is it a file of the challenge?")
    image, boxes = arrays["imgs"], arrays.get("boxes")
    image = _without_channel(image)
    labels = load_arrays(path, ("gts",)).get("gts") if boxes is None else None
    dimensions = _dimensions(path, image, boxes, labels)
    return make_image(
        path,
        image,
        dimensions,
        kind="npz",
        spacing=_spacing(path, arrays.get("spacing"), dimensions),
        boxes=boxes,
        missing_boxes=_NO_BOXES if labels is None else _ONLY_LABELS,
    )


def _dimensions(path: Path, image: NDArray, boxes: NDArray | None, labels: NDArray | None) -> int:
    possible = [count for count in (2, 3) if image.ndim == count or (image.ndim == count + 1 and image.shape[-1] == 3)]
    if not possible:
        raise InputError(f"{path}: imgs has the shape {image.shape}; expected (H, W), (D, H, W), or these with 3 last.")
    if boxes is not None and boxes.size and boxes.shape[-1] // 2 in possible:
        return boxes.shape[-1] // 2
    if labels is not None and labels.ndim in possible:
        return labels.ndim
    return possible[0]


PREDICTION_KEY = "segs"
REFERENCE_KEYS = ("auto", "inst", "gts")


def read_npz_labels(path: Path, key: str) -> Image:
    """Reads one label map. Pickled objects are never loaded.

    Args:
        path: the file.
        key: "segs", "inst", "gts", or "auto" for the objects that the boxes of the file stand for, object i + 1 being
            that of box i, as in predictions: `inst` where present; else the values of `gts`, which `box_labels`, where
            present, assigns to boxes. Values that no box has are background then.

    Returns:
        (H, W) or (D, H, W), with the spacing in array order; `spacing` in the file is (x, y) or (x, y, z).

    Raises:
        InputError: unreadable, a key missing, values that are no labels, a bad spacing.
    """
    wanted = {"auto": ("inst", "gts", "box_labels")}.get(key, (key,))
    arrays = load_arrays(path, (*wanted, "spacing"))
    damaged = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if damaged:  # numpy returns the bytes of a member that does not begin like an array
        raise InputError(f"{path} cannot be read ({damaged[0]} is no array).")
    if key == "auto":
        key = "inst" if "inst" in arrays else "gts"
    if key not in arrays:
        with zipfile.ZipFile(path) as archive:
            separate = key == PREDICTION_KEY and "masks.npy" in archive.namelist()
        hint = "; written by `nnsam segment --separate`? Label maps are written without it" if separate else ""
        raise InputError(f"{path} lacks the key {key}{hint}.")
    values = arrays[key]
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        raise InputError(
            f"{path}: {key} must be a label map, (H, W) or (D, H, W); found {values.dtype}, shape {values.shape}."
        )
    values = _without_channel(values)
    spacing = _spacing(path, arrays.get("spacing"), values.ndim)
    labels = make_labels(path, values, kind="npz", spacing=spacing)
    if "box_labels" in arrays and key == "gts":
        return labels.with_pixels(_by_box(path, labels.pixels, arrays["box_labels"]))
    return labels


def _by_box(path: Path, values: NDArray[np.integer], box_labels: NDArray) -> NDArray[np.integer]:
    """Renumbers a semantic label map: i + 1 where the value is that of box i."""
    labels = np.atleast_1d(box_labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(np.unique(labels)) < len(labels):
        raise InputError(
            f"{path}: without inst, box_labels must hold one value of gts per box, each once; found "
            f"{labels.ravel().tolist()[:8]}. To score gts as it is, use --reference-key gts."
        )
    objects = np.zeros(values.shape, np.int64)
    for index, label in enumerate(labels.tolist()):
        objects[values == label] = index + 1
    return objects
