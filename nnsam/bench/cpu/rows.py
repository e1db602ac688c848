"""The 14 cases of Table 4 of Stock et al., "Segment Anything in Medical Images with nnUNet", timed with a bundle.

Warm in this process, cold in fresh ones, with their peak memory. Their images are the challenge's and not free to be
passed on; time depends on size and number of objects alone, so synthetic images of the same sizes stand for them.
"""

import gc
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.bench.measuring import Candidate, run_cold, segment_command, time_alternating
from nnsam.bench.models import open_predictor
from nnsam.errors import InputError
from nnsam.io.writing import write_png
from nnsam.support.drafts import temporary_folder

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor

_SIDES = {2: (0.04, 0.14), 3: (0.15, 0.45)}  # of the boxes, as a share of the image's shorter side
_MIDDLE = (0.2, 0.8)  # the only object of an image


@dataclass(frozen=True)
class TableRow:
    """One case of the table.

    Attributes:
        name: the paper's case number without its prefix 2DBox_ or 3DBox_.
        size: (H, W) of a colour picture, (D, H, W) of a grey volume.
        objects: number of boxes.
    """

    name: str
    size: tuple[int, ...]
    objects: int

    @property
    def is_volume(self) -> bool:
        """Whether the image has slices."""
        return len(self.size) == 3


ROWS = (
    TableRow("CT_0566", (287, 512, 512), 6),
    TableRow("CT_0888", (237, 512, 512), 6),
    TableRow("CT_0860", (246, 512, 512), 1),
    TableRow("MR_0621", (115, 400, 400), 6),
    TableRow("MR_0121", (64, 290, 320), 6),
    TableRow("MR_0179", (84, 512, 512), 1),
    TableRow("PET_0001", (264, 200, 200), 1),
    TableRow("US_0525", (256, 256), 1),
    TableRow("X-Ray_0053", (320, 640), 34),
    TableRow("Dermoscopy_0003", (3024, 4032), 1),
    TableRow("Endoscopy_0086", (480, 560), 1),
    TableRow("Fundus_0003", (2048, 2048), 1),
    TableRow("Microscope_0008", (1536, 2040), 19),
    TableRow("Microscope_0016", (1920, 2560), 241),
)
QUICK = ("US_0525", "X-Ray_0053", "Endoscopy_0086")


@dataclass(frozen=True)
class SyntheticImage:
    """A smooth picture or volume with one ellipse per box.

    Attributes:
        image: (H, W, 3) or (D, H, W), uint8.
        boxes: (N, 4) or (N, 6) in the users' convention, see :mod:`nnsam.prompts.convention`.
        spacing: (D, H, W) in mm for volumes, None for pictures.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    spacing: tuple[float, ...] | None


def choose_rows(names: Sequence[str] | None, quick: bool = False) -> tuple[TableRow, ...]:
    """Returns rows by name or by how their names begin ("ct" is three of them), in the table's order.

    Raises:
        InputError: a name that fits none.
    """
    if names is None:
        return tuple(row for row in ROWS if not quick or row.name in QUICK)
    for name in names:
        if not any(_fits(row, name) for row in ROWS):
            raise InputError(f"there is no row {name!r}; expected (the beginning of) {', '.join(r.name for r in ROWS)}")
    return tuple(row for row in ROWS if any(_fits(row, name) for name in names))


def _fits(row: TableRow, name: str) -> bool:
    return bool(name) and row.name.lower().startswith(name.lower())


def limit_slices(row: TableRow, limit: int | None) -> TableRow:
    """Returns the row with at most so many slices; pictures and `None` leave it as it is."""
    if limit is None or not row.is_volume or row.size[0] <= limit:
        return row
    return TableRow(row.name, (limit, *row.size[1:]), row.objects)


def make_image(row: TableRow, seed: int = 0) -> SyntheticImage:
    """Draws the image of a row; the same seed gives the same image.

    An object of a volume is an ellipse in every slice, so that its box costs as much as a box can.
    """
    rng = np.random.default_rng(seed)
    plane_boxes = _boxes(row, rng)
    colours = 1 if row.is_volume else 3
    plane = np.stack([_background(row.size[-2:], rng) for _ in range(colours)], axis=-1)
    for box, colour in zip(plane_boxes, rng.uniform(40, 110, (row.objects, colours)), strict=True):
        _add_ellipse(plane, box, colour)
    x0, y0, x1, y1 = plane_boxes.T
    if not row.is_volume:
        return SyntheticImage(plane.clip(0, 255).astype(np.uint8), plane_boxes, None)
    depth = row.size[0]
    # Slices differ in brightness, as in a scan, so that no two of them have the same content.
    gain = np.linspace(0.7, 1.0, depth, dtype=np.float32)
    image = np.empty(row.size, np.uint8)
    for index in range(depth):
        image[index] = (plane[..., 0] * gain[index]).clip(0, 255)
    zeros = np.zeros_like(x0)
    return SyntheticImage(image, np.stack([x0, y0, zeros, x1, y1, zeros + depth - 1], axis=1), (2.0, 1.0, 1.0))


def next_content(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Returns the image shifted by `number` columns: the same work, but nothing that could have been remembered."""
    return np.ascontiguousarray(np.roll(image, number, axis=-1 if image.shape[-1] != 3 else -2))


def _boxes(row: TableRow, rng: np.random.Generator) -> NDArray[np.int64]:
    """Boxes in one plane, (N, 4), users' convention, no two of them the same."""
    height, width = row.size[-2:]
    size = np.array([width, height])
    if row.objects == 1:
        low, high = (np.rint(share * size).astype(np.int64) for share in _MIDDLE)
        return np.concatenate([low, high - 1])[None]
    low, high = (max(2, round(share * min(size))) for share in _SIDES[len(row.size)])
    found: dict[tuple[int, ...], None] = {}
    while len(found) < row.objects:
        sides = rng.integers(low, high, 2, endpoint=True)
        corner = rng.integers(0, size - sides, endpoint=True)
        found[tuple(np.concatenate([corner, corner + sides - 1]).tolist())] = None
    return np.array(list(found), dtype=np.int64)


def _background(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random structure around 90, (H, W)."""
    from PIL import Image

    coarse = rng.normal(90, 20, (9, 9)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32).copy()


def _add_ellipse(plane: NDArray[np.float32], box: NDArray[np.int64], colour: NDArray[np.float64]) -> None:
    x0, y0, x1, y1 = box.tolist()
    y = np.linspace(-1, 1, y1 - y0 + 1, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, x1 - x0 + 1, dtype=np.float32)
    inside = (y**2 + x**2 <= 1)[..., None]
    plane[y0 : y1 + 1, x0 : x1 + 1] += inside * colour.astype(np.float32)


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
        rows: see :data:`ROWS`.
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
    with temporary_folder() as folder:
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
