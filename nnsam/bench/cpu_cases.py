"""The rows of Table 4, timed with a bundle: warm in this process, cold in fresh ones, and their peak memory."""

import gc
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsam.bench.cpu_process import run_cold, segment_command
from nnsam.bench.cpu_ratios import open_predictor
from nnsam.bench.cpu_rows import SyntheticImage, TableRow, limit_slices, make_image, next_content
from nnsam.bench.cpu_timing import Candidate, time_alternating
from nnsam.data.image_files import write_png

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor

# Slices that warm a volume up: enough for batches of all the sizes that the whole volume is cut into.
_WARMUP_SLICES = 4
_MANY = 100  # boxes


def measure_rows(
    bundle: Path,
    rows: Sequence[TableRow],
    precisions: Sequence[str],
    rounds: int,
    *,
    slices_limit: int | None = None,
    threads: int = 0,
    cold: bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Times every row in every precision.

    Args:
        bundle: folder of a box model.
        rows: see :data:`nnsam.bench.cpu_rows.ROWS`.
        precisions: of f32, bf16 and int8.
        rounds: that count, for pictures with few boxes; those with many and volumes, long by themselves, get a third.
        slices_limit: volumes have at most so many slices.
        threads: 0 for all.
        cold: with fresh processes.
        progress: is told what is being measured.

    Returns:
        Per row: `name`; `shape` as in the table; `boxes`; `slices`, how many were computed (None for pictures);
        `precisions`: precision -> what :func:`_warm` and :func:`_cold` return; and, on top, the figures of the
        quickest precision over all rows, `precision`.
    """
    predictors = {precision: open_predictor(bundle, precision, threads) for precision in precisions}
    found = []
    for row in rows:
        progress(f"{row.name}, warm")
        found.append(_entry(row, slices_limit, _warm(predictors, limit_slices(row, slices_limit), rounds)))
    predictors.clear()
    gc.collect()  # the fresh processes have the machine for themselves
    for row, entry in zip(rows, found, strict=True):
        for precision in precisions if cold else ():
            progress(f"{row.name}, cold, {precision}")
            figures = _cold(bundle, limit_slices(row, slices_limit), precision, threads, _repetitions(row, rounds))
            entry["precisions"][precision].update(figures)
    best = min(precisions, key=lambda name: sum(entry["precisions"][name]["warm_s"] for entry in found))
    return [{**entry, "precision": best, **entry["precisions"][best]} for entry in found]


def _entry(row: TableRow, limit: int | None, timings: Mapping[str, dict]) -> dict[str, Any]:
    slices = limit_slices(row, limit).size[0] if row.is_volume else None
    shape = list(row.size) if row.is_volume else [*row.size, 3]
    for figures in timings.values():
        if row.is_volume:
            figures["s_per_slice_and_object"] = figures["warm_s"] / figures["passes"]
            # Of the whole volume, from the part that was computed.
            figures["whole_volume_s"] = figures["s_per_slice_and_object"] * row.size[0] * row.objects
    return {"name": row.name, "shape": shape, "boxes": row.objects, "slices": slices, "precisions": dict(timings)}


def _repetitions(row: TableRow, rounds: int) -> int:
    return max(1, rounds // 3) if row.is_volume or row.objects > _MANY else rounds


def _warm(predictors: Mapping[str, "BoxPredictor"], row: TableRow, rounds: int) -> dict[str, dict[str, Any]]:
    """Times image and boxes to label map, everything loaded; returns precision -> warm_s (median) and the like."""
    made = make_image(row)
    passes: dict[str, int] = {}

    def candidate(name: str, predictor: "BoxPredictor") -> Candidate:
        def segment(content: SyntheticImage) -> object:
            predictor.set_image(content.image, content.spacing, dimensions=len(row.size))
            prediction = predictor.predict(content.boxes)
            passes[name] = prediction.passes
            return prediction.label_map()

        return segment

    def prepare(number: int) -> SyntheticImage:
        content = made if number >= 0 else _short(made)
        return replace(content, image=next_content(content.image, number))

    candidates = {name: candidate(name, predictor) for name, predictor in predictors.items()}
    timings = time_alternating(candidates, _repetitions(row, rounds), prepare=prepare)
    return {
        name: {
            "warm_s": timing.median,
            "warm_min_s": timing.minimum,
            "warm_max_s": timing.maximum,
            "passes": passes[name],
        }
        for name, timing in timings.items()
    }


def _short(made: SyntheticImage) -> SyntheticImage:
    """The first slices of a volume; a picture as it is."""
    if made.spacing is None:
        return made
    image, boxes = made.image[:_WARMUP_SLICES], made.boxes.copy()
    boxes[:, 5] = len(image) - 1
    return SyntheticImage(image, boxes, made.spacing)


def _cold(bundle: Path, row: TableRow, precision: str, threads: int, rounds: int) -> dict[str, float | None]:
    """Runs `nnsam segment` once with nothing cached and then with the compiled model cached.

    Returns:
        `cold_s`: median seconds from the process' start to the mask on disk; `cold_uncached_s`: of the first run;
        `peak_mb`: the highest of the cached runs; `peak_uncached_mb`.
    """
    with tempfile.TemporaryDirectory(prefix="nnsam_bench_") as name:
        folder = Path(name)
        image, boxes, output = _write_case(row, folder)
        options = ["--precision", precision, *(["--threads", str(threads)] if threads else [])]
        command = segment_command(bundle, image, boxes, output, options)
        environment = {"NNSAM_HOME": str(folder / "home")}
        first = run_cold(command, output, environment)
        runs = [run_cold(command, output, environment) for _ in range(max(1, min(rounds, 3)))]
    peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
    return {
        "cold_s": statistics.median(run.seconds for run in runs),
        "cold_uncached_s": first.seconds,
        "peak_mb": max(peaks) if peaks else None,
        "peak_uncached_mb": first.peak_mb,
    }


def _write_case(row: TableRow, folder: Path) -> tuple[Path, Path, Path]:
    """Writes image and boxes as a user has them: pictures as PNG, volumes in the challenge's npz layout."""
    made = make_image(row)
    boxes = folder / "boxes.json"
    boxes.write_text(json.dumps(made.boxes.tolist()))
    if made.spacing is None:
        write_png(folder / "image.png", made.image)
        return folder / "image.png", boxes, folder / "mask.png"
    np.savez(folder / "image.npz", imgs=made.image, boxes=made.boxes, spacing=np.array(made.spacing[::-1]))
    return folder / "image.npz", boxes, folder / "mask.npz"
