"""Test images with boxes: folders of the challenge's npz files, and synthetic pictures."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.geometry.boxes import to_pixels
from nnsam.io.npz import read_npz_case, read_npz_labels

PREDICTED = "_PREDICTED"  # ending of sets whose masks are a model's output


@dataclass(frozen=True)
class BoxCase:
    """One image with its objects.

    Attributes:
        name: file name without ending.
        image: (H, W), (D, H, W), or with a last axis of three colours.
        objects: (H, W) or (D, H, W); object i has the value values[i].
        values: the object numbers that occur, ascending.
        boxes: (N, 2 D) int64, the objects' tight boxes, half-open, in array order.
        spacing: pixel size in mm in array order; None where the file has none.
    """

    name: str
    image: NDArray
    objects: NDArray[np.integer]
    values: list[int]
    boxes: NDArray[np.int64]
    spacing: tuple[float, ...] | None


def read_box_case(path: Path) -> BoxCase:
    """Reads the image and the objects that its boxes stand for: `inst`, or `gts` in the order of `box_labels`.

    Raises:
        InputError: as `read_npz_case`.
    """
    from scipy import ndimage

    case = read_npz_case(path)
    labels = read_npz_labels(path, "auto")
    found = [(value, box) for value, box in enumerate(ndimage.find_objects(labels.pixels), start=1) if box is not None]
    boxes = [[side.start for side in box] + [side.stop for side in box] for _, box in found]
    return BoxCase(
        case.name,
        case.image.pixels,
        labels.pixels,
        [value for value, _ in found],
        np.array(boxes, dtype=np.int64).reshape(len(boxes), 2 * labels.dimensions),
        labels.spacing,
    )


def find_box_sets(
    folder: str | Path, sets: Sequence[str] | None = None
) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Finds the sets with masks, <folder>/<set>/test/*.npz.

    Args:
        folder: holds one folder per set.
        sets: names of the sets wanted; None: all.

    Returns:
        Set -> its files, sorted; and set -> why it is left out: *_PREDICTED, or files without masks.

    Raises:
        InputError: no such folder or set, or no set with masks.
    """
    folder = Path(folder)
    available = {path.parent.name: sorted(path.glob("*.npz")) for path in sorted(folder.glob("*/test"))}
    available = {name: files for name, files in available.items() if files}
    if not available:
        raise InputError(f"{folder} holds no test sets; expected files <set>/test/*.npz below it.")
    unknown = sorted(set(sets or ()) - set(available))
    if unknown:
        raise InputError(f"{folder} has no set {', '.join(unknown)}; it has {', '.join(available)}.")
    chosen: dict[str, list[Path]] = {}
    skipped: dict[str, str] = {}
    for name in sets or available:
        with_masks = [path for path in available[name] if _has_masks(path)]
        if name.endswith(PREDICTED):
            skipped[name] = "masks are a model's output"
        elif not with_masks:
            skipped[name] = "no masks"
        else:
            chosen[name] = with_masks
    if not chosen:
        raise InputError(f"{folder}: none of the sets has masks made by people ({', '.join(skipped)}).")
    return chosen, skipped


def _has_masks(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "gts.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True  # damaged: the reader says so


def synthetic_case(shape: tuple[int, int], seed: int = 0) -> BoxCase:
    """A noisy grey picture with one bright ellipse, whose box covers the middle 60 % of each side.

    Args:
        shape: (H, W).
        seed: of the noise.

    Returns:
        8-bit image, one object.
    """
    from nnsam.bench.box.accuracy import inscribed_ellipse

    size = np.array(shape)
    box = to_pixels(np.concatenate([0.2 * size, 0.8 * size]))
    mask = inscribed_ellipse(box, shape)
    noise = np.random.default_rng(seed).normal(60, 15, shape)
    image = np.clip(noise + 90 * mask, 0, 255).astype(np.uint8)
    return BoxCase(f"{shape[0]}x{shape[1]}", image, mask.astype(np.uint8), [1], box[None], None)
