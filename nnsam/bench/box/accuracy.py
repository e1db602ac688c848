"""Accuracy of box-prompt segmentation on test sets, beside baselines that need no training."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsam.bench.box.cases import BoxCase, find_box_sets, read_box_case
from nnsam.errors import InputError, SetupError
from nnsam.geometry.boxes import clip, expand, sides, slices
from nnsam.inference.box.prediction import OVERLAPS
from nnsam.io.image import to_eight_bit, to_rgb
from nnsam.metrics import dice
from nnsam.metrics.surface import surface_dice
from nnsam.support.installation import how_to_install

# One object by one method: set, case, object, method, unit, large, seconds, passes, DSC, NSD.
Row = dict[str, Any]
SCORES = ("DSC", "NSD")
# Sets of so few cases say little; counts of sets leave them out.
FEW_CASES = 2


def summarize_rows(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any]:
    """The part of `evaluate_sets`'s result that comes from the scores; see there."""
    sets = {name: _summarize_set(chosen, methods) for name, chosen in group(rows, "set").items()}
    larger = {name: entry for name, entry in sets.items() if entry["cases"] > FEW_CASES}
    large = [row for row in rows if row["large"]]
    return {
        "modes": list(methods),
        "sets": sets,
        "mean": {method: _mean_of_sets(sets, method) for method in methods},
        f"mean_of_sets_above_{FEW_CASES}": {method: _mean_of_sets(larger, method) for method in methods},
        "above_ellipse": _above_ellipse(larger, methods),
        "zoom_below_faithful": _zoom_below_faithful(sets, methods),
        "larger_than_patch": {
            "objects": len(large) // len(methods),
            "modes": {method: _mean_scores(chosen) for method, chosen in group(large, "method").items()},
        },
        "passes_per_box": {
            method: mean_of_defined(row["passes"] for row in chosen) for method, chosen in group(rows, "method").items()
        },
    }


def group(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """Rows by the value of one column, in order of appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Mean without nan and None; None, JSON's null, if nothing is left."""
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return sum(defined) / len(defined) if defined else None


def _summarize_set(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any]:
    cases = group(rows, "case")
    scores = {
        case: {method: _mean_scores(found) for method, found in group(chosen, "method").items()}
        for case, chosen in cases.items()
    }
    by_method = group(rows, "method")
    return {
        "cases": len(cases),
        "objects": len(rows) // len(methods),
        "larger_than_patch": sum(row["large"] for row in rows) // len(methods),
        "unit": " or ".join(sorted({row["unit"] for row in rows})),
        "modes": {
            method: {
                **{name: mean_of_defined(scores[case][method][name] for case in cases) for name in SCORES},
                "seconds": mean_of_defined(row["seconds"] for row in by_method[method]),
                "passes": mean_of_defined(row["passes"] for row in by_method[method]),
            }
            for method in methods
        },
        "case_scores": scores,
    }


def _mean_scores(rows: Sequence[Row]) -> dict[str, float | None]:
    return {name: mean_of_defined(row[name] for row in rows) for name in SCORES}


def _mean_of_sets(sets: dict[str, dict], method: str) -> dict[str, float | None]:
    return {name: mean_of_defined(entry["modes"][method][name] for entry in sets.values()) for name in SCORES}


def _above_ellipse(sets: dict[str, dict], methods: Sequence[str]) -> dict[str, dict[str, int]]:
    """Method -> on how many sets its DSC is above the ellipse's, and of how many; empty without the ellipse."""
    if "ellipse" not in methods:
        return {}

    def above(method: str) -> Callable[[dict], bool]:
        return lambda entry: entry["modes"][method]["DSC"] > entry["modes"]["ellipse"]["DSC"]

    others = [method for method in methods if method != "ellipse"]
    return {method: {"sets": sum(map(above(method), sets.values())), "of": len(sets)} for method in others}


def _zoom_below_faithful(sets: dict[str, dict], methods: Sequence[str]) -> dict[str, Any] | None:
    """The set on which zoom's DSC is lowest compared with faithful's, and by how much; negative: it is above."""
    if not {"zoom", "faithful"} <= set(methods) or not sets:
        return None
    below = {name: entry["modes"]["faithful"]["DSC"] - entry["modes"]["zoom"]["DSC"] for name, entry in sets.items()}
    worst = max(below, key=lambda name: below[name])
    return {"set": worst, "DSC": below[worst]}


# GrabCut sees the box with half of its side (at least so many pixels) on each side, shrunk to at most this side.
GRABCUT_MARGIN = 0.5
GRABCUT_MIN_MARGIN = 16
GRABCUT_MAX_SIDE = 512
GRABCUT_ITERATIONS = 5

TOLERANCE = 2.0
BASELINES = ("ellipse", "grabcut")
# How a network is asked; `zoom:smaller` scores the objects as they are in the label map of that rule, not each alone.
PLAIN_MODES = ("zoom", "faithful")
NETWORK_MODES = (*PLAIN_MODES, *(f"{mode}:{rule}" for mode in PLAIN_MODES for rule in OVERLAPS))
# Where no network says how large its patch is: that of Stock et al.
DEFAULT_PATCH = (224, 288)

Mask = NDArray[np.bool_]


def evaluate_sets(
    predictor: Any,
    data_folder: str | Path,
    modes: Sequence[str] = ("zoom", "faithful"),
    sets: Sequence[str] | None = None,
    max_cases: int | None = None,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
    baselines: Sequence[str] = ("ellipse",),
) -> dict[str, Any]:
    """Segments every object of every test image from its tight box, and scores the masks.

    Args:
        predictor: an `nnsam.inference.BoxPredictor`; None scores the baselines only.
        data_folder: holds <set>/test/*.npz in the challenge's layout. Sets named *_PREDICTED, whose masks are a
            model's, and sets without masks are left out.
        modes: of the predictor, "zoom" and "faithful", each object's mask alone; with ":smaller" or ":score" behind
            it, what is left of it in the label map by that rule, see `Prediction.label_map`.
        sets: names of the sets wanted; None: all.
        max_cases: images per set at most, evenly spread over the sorted files; None: all.
        progress: wraps the list of files, for a progress bar.
        baselines: "ellipse" and "grabcut".

    Returns:
        What JSON can hold; DSC and NSD are 0..1, null where undefined:

        - sets: name -> cases, objects, unit (of NSD's tolerance: "mm" or "pixels"), modes (mode -> DSC and NSD, means
          over cases of the mean over the case's objects; seconds per object; passes per object), case_scores
          (case -> mode -> DSC, NSD).
        - skipped: set -> reason.
        - mean: mode -> DSC and NSD, means over sets; mean_of_sets_above_2: over sets with more than 2 cases.
        - above_ellipse: mode -> {sets, of}: on how many of the sets with more than 2 cases its DSC is the higher one.
        - larger_than_patch: {objects, modes: mode -> DSC, NSD}: means over the objects whose box has a side longer than
          the patch's; zoom_below_faithful: {set, DSC}: the set on which zoom is furthest below faithful.
        - passes_per_box: mode -> network passes per box, over all objects.
        - patch_size, tolerance, modes.

    Raises:
        InputError: unknown modes, no sets, damaged files.
        SetupError: GrabCut without OpenCV.
    """
    methods = check_methods(modes if predictor is not None else (), baselines)
    found, skipped = find_box_sets(data_folder, sets)
    files = [(name, path) for name, paths in found.items() for path in spread(paths, max_cases)]
    patch = patch_size(predictor)
    rows: list[Row] = []
    owners = {path: name for name, path in files}
    for path in progress([path for _, path in files]):
        case = read_box_case(path)
        for method in methods:
            rows += _case_rows(owners[path], case, method, predictor, patch)
    return {**summarize_rows(rows, methods), "skipped": skipped, "patch_size": list(patch), "tolerance": TOLERANCE}


def spread(items: Sequence[Path], count: int | None) -> list[Path]:
    """At most `count` items, evenly spaced and in order; None: all."""
    if count is not None and count < 1:
        raise InputError(f"The number of cases per set must be at least 1; found {count}.")
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def patch_size(predictor: Any) -> tuple[int, int]:
    """The patch of a predictor's network, (H, W); that of Stock et al. for None."""
    if predictor is None:
        return DEFAULT_PATCH
    height, width = predictor.spec.patch_size
    return int(height), int(width)


def check_methods(modes: Sequence[str], baselines: Sequence[str]) -> list[str]:
    """Returns modes and baselines in one list.

    Raises:
        InputError: unknown ones, or none at all.
        SetupError: GrabCut without OpenCV.
    """
    for names, known in ((modes, NETWORK_MODES), (baselines, BASELINES)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"Unknown mode {unknown[0]!r}; known: {', '.join(known)}.")
    methods = [*modes, *baselines]
    if not methods:
        raise InputError("Nothing to score: neither a mode nor a baseline was given.")
    if "grabcut" in methods:
        import_opencv()
    return methods


def _case_rows(set_name: str, case: BoxCase, method: str, predictor: Any, patch: tuple[int, int]) -> list[Row]:
    """One row per object; every object of a case that has none is none."""
    if not case.values:
        return []
    start = time.perf_counter()
    masks, passes = _segment(case, method, predictor)
    seconds = (time.perf_counter() - start) / len(case.values)
    return [
        {
            "set": set_name,
            "case": case.name,
            "object": value,
            "method": method,
            "unit": "pixels" if case.spacing is None else "mm",
            "large": bool((sides(box)[-2:] > np.array(patch)).any()),
            "seconds": seconds,
            "passes": passes / len(case.values),
            **score_in_box(mask, (case.objects[slices(box)] == value), case.spacing),
        }
        for value, box, mask in zip(case.values, case.boxes, masks, strict=True)
    ]


def score_in_box(prediction: Mask, reference: Mask, spacing: Sequence[float] | None) -> dict[str, float]:
    """DSC and NSD of masks that are cut to the object's box, outside of which both are empty.

    Args:
        prediction: boolean, (h, w) or (d, h, w), the size of the box.
        reference: likewise; it is not empty.
        spacing: in array order; None: pixels (voxels).
    """
    steps = (1.0,) * reference.ndim if spacing is None else spacing
    return {
        "DSC": dice(prediction, reference),
        "NSD": surface_dice(prediction, reference, steps, tolerance=TOLERANCE),
    }


def _segment(case: BoxCase, method: str, predictor: Any) -> tuple[list[Mask], float]:
    """The mask of every object within its box, and the network passes used."""
    if method in NETWORK_MODES:
        mode, _, rule = method.partition(":")
        prediction = predictor.set_image(case.image, spacing=case.spacing).predict_inside(case.boxes, mode=mode)
        if rule:
            labels = prediction.label_map(rule)
            masks = [labels[slices(box)] == number for number, box in enumerate(case.boxes, 1)]
            return masks, float(prediction.passes)
        masks = [_within_box(found, box) for found, box in zip(prediction.masks, case.boxes, strict=True)]
        return masks, float(prediction.passes)
    if method == "ellipse":
        return [inscribed_ellipse([0] * len(size) + list(size), size) for size in map(_size, case.boxes)], 0.0
    return [_grabcut(case, box) for box in case.boxes], 0.0


def _within_box(found: Any, box: NDArray[np.int64]) -> Mask:
    if not np.array_equal(found.origin, box):
        raise RuntimeError(f"the predictor returned the box {found.origin} for {box}")
    return np.asarray(found.mask, dtype=bool)


def _size(box: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(side) for side in sides(box))


def _grabcut(case: BoxCase, box: NDArray[np.int64]) -> Mask:
    """Volumes are segmented slice by slice, each from the same rectangle."""
    if case.objects.ndim == 2:
        return grabcut(case.image, box)[slices(box)]
    flat = np.concatenate([box[1:3], box[4:]])
    return np.stack([grabcut(case.image[index], flat)[slices(flat)] for index in range(int(box[0]), int(box[3]))])


def inscribed_ellipse(box: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Draws the ellipse that touches all sides of a box (for volumes the ellipsoid): area pi / 4 * height * width.

    Args:
        box: (y0, x0, y1, x1) or (z0, y0, x0, z1, y1, x1), half-open.
        shape: of the image, with as many axes.

    Returns:
        Boolean, of this shape: the pixels whose centre lies in the ellipse. A box of one pixel gives that pixel.

    Example:
        >>> int(inscribed_ellipse([0, 0, 200, 100], (200, 100)).sum()), round(np.pi / 4 * 200 * 100)
        (15708, 15708)
    """
    corners = np.asarray(box, dtype=np.float64)
    distance = np.zeros(tuple(shape))
    for axis, size in enumerate(shape):
        low, high = corners[axis], corners[axis + len(shape)]
        relative = (2 * (np.arange(size) + 0.5) - low - high) / (high - low)
        distance = distance + (relative**2).reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return distance < 1


def grabcut(image: NDArray, box: ArrayLike) -> NDArray[np.bool_]:
    """Segments the object in a box with OpenCV's GrabCut (Rother et al., SIGGRAPH 2004), started from the rectangle.

    Five iterations on the box and its surroundings, which are shrunk where they are larger than 512 pixels. The result
    does not depend on earlier calls: OpenCV's random generator is set before. Where object and surroundings look alike,
    as in many grey images, GrabCut calls everything background; such empty masks are left as they are.

    Args:
        image: (H, W) or (H, W, 3), any real type.
        box: (y0, x0, y1, x1), half-open, inside the image.

    Returns:
        (H, W) boolean, nothing outside the box. Where no background is left around the box the whole box.

    Raises:
        SetupError: OpenCV is not installed.
        InputError: a volume.
    """
    cv2 = import_opencv()
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise InputError(f"GrabCut segments pictures, (H, W) or (H, W, 3); found shape {image.shape}.")
    shape = image.shape[:2]
    region = _surroundings(box, shape)
    picture = to_rgb(to_eight_bit(image), image.ndim == 3)[slices(region)]
    inner = np.asarray(box, dtype=np.float64) - np.tile(region[:2], 2)
    scale = min(1.0, GRABCUT_MAX_SIDE / max(picture.shape[:2]))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    found = _grabcut_in_rectangle(cv2, np.ascontiguousarray(picture), _rectangle(inner * scale, picture.shape))
    full_size = [int(side) for side in sides(region)[::-1]]
    found = cv2.resize(found.astype(np.uint8), full_size, interpolation=cv2.INTER_NEAREST).astype(bool)
    result = np.zeros(shape, bool)
    result[slices(region)] = found
    outside = np.ones(shape, bool)
    outside[slices(box)] = False
    result[outside] = False
    return result


def import_opencv() -> Any:
    """Returns OpenCV's module `cv2`; raises SetupError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise SetupError(f"GrabCut needs OpenCV; {how_to_install('bench')}") from error
    return cv2


def _surroundings(box: ArrayLike, shape: Sequence[int]) -> NDArray[np.int64]:
    margin = np.maximum(GRABCUT_MIN_MARGIN, np.ceil(GRABCUT_MARGIN * sides(box))).astype(np.int64)
    return clip(expand(np.asarray(box, dtype=np.int64), margin), shape)


def _rectangle(box: NDArray[np.float64], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """OpenCV's (x, y, width, height), in whole pixels, at least one."""
    low = np.minimum(np.floor(box[:2]).astype(int), np.array(shape[:2]) - 1)
    high = np.clip(np.ceil(box[2:] - 1e-6).astype(int), low + 1, shape[:2])
    return int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0])


def _grabcut_in_rectangle(cv2: Any, picture: NDArray, rectangle: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    if rectangle[2:] == picture.shape[1::-1]:  # no background to learn from, which OpenCV refuses
        return np.ones(picture.shape[:2], bool)
    labels = np.zeros(picture.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, rectangle, *models, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
