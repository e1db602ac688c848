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

from nnsam.bench.cpu.process import run_cold, segment_command
from nnsam.bench.cpu.ratios import open_predictor
from nnsam.bench.cpu.rows import SyntheticImage, TableRow, limit_slices, make_image, next_content
from nnsam.bench.cpu.timing import Candidate, time_alternating
from nnsam.io.writing import write_png

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor


# Slices that warm a volume up: enough for batches of all the sizes that the whole volume is cut into.
_WARMUP_SLICES = 4
_MANY = 100  # boxes
PYTORCH_ROW = "pytorch"  # stands beside the names of precisions


def measure_rows(
    bundle: Path,
    rows: Sequence[TableRow],
    precisions: Sequence[str],
    rounds: int,
    *,
    slices_limit: int | None = None,
    threads: int = 0,
    cold: bool = True,
    pytorch: Path | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Times every row in every precision.

    Args:
        bundle: folder of a box model.
        rows: see :data:`nnsam.bench.cpu.rows.ROWS`.
        precisions: of f32, bf16 and int8.
        rounds: that count, for pictures with few boxes; those with many and volumes, long by themselves, get a third.
        slices_limit: volumes have at most so many slices.
        threads: 0 for all.
        cold: with fresh processes.
        pytorch: model folder of the same network, measured in float32 after the bundle.
        progress: is told what is being measured.

    Returns:
        Per row: `name`; `shape` as in the table; `boxes`; `slices`, how many were computed (None for pictures);
        `precisions`: precision, or "pytorch" -> what :func:`_warm` and :func:`_cold` return; and, on top, the figures
        of the precision that is quickest over all rows, `precision`.
    """
    parts = [limit_slices(row, slices_limit) for row in rows]
    found: list[dict[str, dict[str, Any]]] = [{} for _ in rows]
    models: list[tuple[Path, Sequence[str]]] = [(bundle, precisions)]
    if pytorch is not None:
        models.append((pytorch, [PYTORCH_ROW]))
    for model, names in models:  # one after the other, so that PyTorch's memory is not held beside the bundle's
        predictors = {name: _open(model, name, threads) for name in names}
        for part, figures in zip(parts, found, strict=True):
            progress(f"{part.name}, warm{', PyTorch' if model == pytorch else ''}")
            figures.update(_warm(predictors, part, rounds))
        del predictors
        gc.collect()
    for model, names in models if cold else ():
        for part, figures in zip(parts, found, strict=True):
            for name in names:
                progress(f"{part.name}, cold, {name}")
                figures[name].update(_cold(model, part, name, threads, _repetitions(part, rounds)))
    best = min(precisions, key=lambda name: sum(figures[name]["warm_s"] for figures in found))
    return [_entry(row, part, figures, best) for row, part, figures in zip(rows, parts, found, strict=True)]


def _open(model: Path, name: str, threads: int) -> "BoxPredictor":
    if name != PYTORCH_ROW:
        return open_predictor(model, name, threads)
    from nnsam.inference import BoxPredictor

    return BoxPredictor.from_folder(model)


def _entry(row: TableRow, part: TableRow, figures: dict[str, dict[str, Any]], best: str) -> dict[str, Any]:
    if row.is_volume:
        for values in figures.values():
            values["s_per_slice_and_object"] = values["warm_s"] / values["passes"]
            # Of the whole volume, from the part that was computed.
            values["whole_volume_s"] = values["s_per_slice_and_object"] * row.size[0] * row.objects
    return {
        "name": row.name,
        "shape": list(row.size) if row.is_volume else [*row.size, 3],
        "boxes": row.objects,
        "slices": part.size[0] if row.is_volume else None,
        "precision": best,
        **figures[best],
        "precisions": figures,
    }


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


def _cold(model: Path, row: TableRow, precision: str, threads: int, rounds: int) -> dict[str, float | None]:
    """Runs `nnsam segment` once with nothing cached and then with the compiled model cached.

    PyTorch has nothing to cache; its first run, which may have to read files from the disk, does not count either.

    Returns:
        `cold_s`: median seconds from the process' start to the mask on disk; `cold_uncached_s`: of the first run;
        `peak_mb`: the highest of the cached runs; `peak_uncached_mb`. The uncached ones are None for PyTorch.
    """
    compiles = precision != PYTORCH_ROW
    with tempfile.TemporaryDirectory(prefix="nnsam_bench_") as name:
        folder = Path(name)
        image, boxes, output = _write_case(row, folder)
        options = ["--precision", precision if compiles else "f32", *(["--threads", str(threads)] if threads else [])]
        command = segment_command(model, image, boxes, output, options)
        environment = {"NNSAM_HOME": str(folder / "home")}
        first = run_cold(command, output, environment)
        runs = [run_cold(command, output, environment) for _ in range(max(1, min(rounds, 3)))]
    peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
    return {
        "cold_s": statistics.median(run.seconds for run in runs),
        "cold_uncached_s": first.seconds if compiles else None,
        "peak_mb": max(peaks) if peaks else None,
        "peak_uncached_mb": first.peak_mb if compiles else None,
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
