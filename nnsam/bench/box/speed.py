"""Times box-prompt segmentation: over image sizes, over numbers of boxes, and in network passes."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nnsam.bench.box.accuracy import PLAIN_MODES, check_methods, evaluate_sets, spread
from nnsam.bench.box.cases import BoxCase, find_box_sets, read_box_case, synthetic_case
from nnsam.bench.box.load import measure_load
from nnsam.bench.models import CountingBackend, load_predictor
from nnsam.inference import BoxPredictor, faithful_passes
from nnsam.inference.box.prediction import OVERLAPS
from nnsam.io.image import to_rgb
from nnsam.support.machine import describe_machine

SIZES = ((256, 256), (512, 512), (1024, 1024), (2048, 2048), (3024, 4032))
QUICK_SIZES = SIZES[:3]
ROUNDS, QUICK_ROUNDS = 7, 3
# (many, few) boxes in one image.
BOXES, QUICK_BOXES = (241, 60), (24, 8)


def bench_box(
    model: str | None = None,
    data: str | Path | None = None,
    *,
    quick: bool = False,
    rounds: int | None = None,
    device: str = "cpu",
    baselines: Sequence[str] = ("ellipse",),
    sets: Sequence[str] | None = None,
    max_cases: int | None = None,
    overlap: bool = False,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> dict[str, Any]:
    """Measures one model.

    Args:
        model: folder of a trained model, or a bundle; None: the network of Stock et al. with random weights, which
            costs the same.
        data: test sets, see `evaluate_sets`; None: no accuracy, and passes of the synthetic images.
        quick: three image sizes, fewer rounds and boxes.
        rounds: rounds that count; None: 7, or 3 if quick.
        device: "cpu", "cuda" or "mps"; of bundles "cpu" or "auto".
        baselines: see `evaluate_sets`.
        sets: see `evaluate_sets`.
        max_cases: see `evaluate_sets`.
        overlap: score what is left of objects in label maps, too, by either rule for overlaps.
        progress: wraps the test images.

    Returns:
        The JSON object of `nnsam bench box`: `zoom_time_spread`, (longest - shortest) / shortest of the median times
        per box over the sizes; `passes_per_box` of zoom; `rows` per size; `boxes_241` (see `measure_load`);
        `accuracy` (see `evaluate_sets`), of the baselines alone without a model, null without data; `model`,
        `precision`, `device`, `machine`.

    Raises:
        InputError: no such model, no test sets.
        SetupError: GrabCut without OpenCV.
    """
    modes = (*PLAIN_MODES, *(f"zoom:{rule}" for rule in OVERLAPS if overlap))
    if data is not None:  # before minutes of measuring
        check_methods(modes, baselines)
        find_box_sets(data, sets)
    predictor = load_predictor(model, device)
    load = measure_load(model, *(QUICK_BOXES if quick else BOXES), device=device)
    rows = measure_sizes(predictor, QUICK_SIZES if quick else SIZES, rounds or (QUICK_ROUNDS if quick else ROUNDS))
    times = [row["zoom_seconds"] for row in rows]
    accuracy = None
    passes = statistics.mean(row["zoom_passes"] for row in rows)
    if data is not None:
        trained = None if model is None else predictor
        accuracy = evaluate_sets(trained, data, modes, sets, max_cases, progress, baselines)
        passes = accuracy["passes_per_box"]["zoom"] if trained else count_passes(predictor, data, sets, max_cases)
    return {
        "zoom_time_spread": (max(times) - min(times)) / min(times),
        "passes_per_box": passes,
        "rows": rows,
        "boxes_241": load,
        "accuracy": accuracy,
        "model": "71.8 M parameters, random weights" if model is None else Path(model).name,
        "patch_size": list(predictor.spec.patch_size),
        "precision": predictor.precision,
        "device": "cpu" if device == "auto" else device,  # auto of a bundle
        "machine": describe_machine(),
    }


def measure_sizes(predictor: BoxPredictor, sizes: Sequence[tuple[int, int]], rounds: int) -> list[dict[str, Any]]:
    """Times one box, the middle 60 % of the image, on all sizes in turn, round by round.

    A busy machine so slows all sizes down alike, and no size always follows the same other one, whose memory the
    processor's caches still hold. One more round before warms up.

    Args:
        predictor: what is measured.
        sizes: of the images, (H, W).
        rounds: that count.

    Returns:
        Per size: size; zoom_seconds and set_image_seconds, medians; zoom_seconds_min; zoom_passes; faithful_passes,
        counted on a stand-in for the network, and faithful_rule, by the published rule.
    """
    cases = [synthetic_case(size) for size in sizes]
    images = [to_rgb(case.image, False) for case in cases]
    times: list[dict[str, list[float]]] = [{"set_image": [], "zoom": []} for _ in sizes]
    passes = [0] * len(sizes)
    generator = random.Random(0)
    for count in range(rounds + 1):
        for index in generator.sample(range(len(sizes)), len(sizes)):
            case, image = cases[index], images[index]
            start = time.perf_counter()
            predictor.set_image(image)
            prepared = time.perf_counter()
            passes[index] = predictor.predict_inside(case.boxes, mode="zoom").passes
            finished = time.perf_counter()
            if count:
                times[index]["set_image"].append(prepared - start)
                times[index]["zoom"].append(finished - prepared)
    return [
        {
            "size": list(case.objects.shape),
            "zoom_seconds": statistics.median(taken["zoom"]),
            "zoom_seconds_min": min(taken["zoom"]),
            "set_image_seconds": statistics.median(taken["set_image"]),
            "zoom_passes": zoom_passes,
            **_faithful(predictor, case),
        }
        for case, taken, zoom_passes in zip(cases, times, passes, strict=True)
    ]


def count_passes(
    predictor: BoxPredictor, data: str | Path, sets: Sequence[str] | None = None, max_cases: int | None = None
) -> float:
    """Network passes of zoom per box over test sets, without computing any; an upper bound for volumes."""
    counter = BoxPredictor(CountingBackend(predictor.spec))
    boxes = passes = 0
    for paths in find_box_sets(data, sets)[0].values():
        for path in spread(paths, max_cases):
            case = read_box_case(path)
            if case.values:
                passes += counter.set_image(case.image, case.spacing).predict_inside(case.boxes, mode="zoom").passes
                boxes += len(case.values)
    return passes / boxes


def _faithful(predictor: BoxPredictor, case: BoxCase) -> dict[str, int]:
    spec = predictor.spec
    counter = BoxPredictor(CountingBackend(spec))
    counted = counter.set_image(case.image).predict_inside(case.boxes, mode="faithful").passes
    rule = sum(faithful_passes(box, case.objects.shape, spec.patch_size) for box in case.boxes)
    return {"faithful_passes": counted, "faithful_rule": rule}
