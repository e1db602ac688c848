"""Label maps in the challenge's npz layout: predictions under `segs`, references under `inst` or `gts`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.npz_case import checked_spacing, load_arrays
from nnsam.errors import InputError
from nnsam.metrics.label_files import LabelMap, as_labels

PREDICTION_KEY = "segs"
REFERENCE_KEYS = ("auto", "inst", "gts")


def read_npz_labels(path: Path, key: str) -> LabelMap:
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
        raise InputError(f"{path} lacks the key {key}.")
    values = arrays[key]
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        raise InputError(
            f"{path}: {key} must be a label map, (H, W) or (D, H, W); found {values.dtype}, shape {values.shape}."
        )
    values = as_labels(values, path)
    if "box_labels" in arrays and key == "gts":
        values = _by_box(path, values, arrays["box_labels"])
    spacing = checked_spacing(path, arrays.get("spacing"), values.ndim)
    return LabelMap(values, None if spacing is None else spacing[::-1], {})


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
