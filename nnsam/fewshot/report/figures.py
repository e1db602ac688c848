"""Learning curves, and pictures of examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.fewshot.report.numbers import ESTIMATE, OVERALL, TRAINING
from nnsam.fewshot.report.results import SHARES, Results, over_structures
from nnsam.fewshot.report.tables import METRIC_NAMES, RANDOM_MARK, method_label, metric_title, random_note
from nnsam.fewshot.runs.state import RunKey
from nnsam.fewshot.study.layout import dataset_name, raw_folder, test_folder
from nnsam.io.finding import image_name
from nnsam.io.overlay import COLORS, overlay
from nnsam.io.reading import read_image, read_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's palette (without yellow, too pale for a line), told apart with any colour vision, and in print by
# marker and line.
CURVE_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")
_WIDTH, _HEIGHT = 7.2, 4.6
_LEGEND_COLUMNS = {1: 1, 2: 2, 3: 4}  # by columns of plots


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        file: the PNG, in the report's folder of figures.
        caption: below it.
        alternative: what it shows, for those who cannot see it.
    """

    file: Path
    caption: str
    alternative: str


def draw_overall(results: Results, numbers: pd.DataFrame, metric: str, folder: Path) -> Picture:
    """Draws the mean over structures of one metric as folder/curve_<metric>.png."""
    figure = _figure(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.09, 0.11, 0.89, 0.80))
    _draw_curves(axes, results, numbers, metric, OVERALL)
    axes.set(xlabel="training cases", ylabel=f"{metric_title(results, metric)}, {_better(metric)}")
    axes.legend(fontsize=8, frameon=False, loc="best")
    _title(figure, results, f"{METRIC_NAMES[metric]}, mean over structures")
    path = _save(figure, folder / f"curve_{metric}.png")
    return Picture(path, _caption(results), f"Learning curves of {METRIC_NAMES[metric]}, one line per method.")


def draw_structures(results: Results, numbers: pd.DataFrame, metric: str, folder: Path) -> Picture:
    """Draws one small plot per structure as folder/curve_<metric>_by_structure.png."""
    count = len(results.structures)
    columns = min(3, count)
    rows = -(-count // columns)
    legend_rows = -(-len(results.methods) // _LEGEND_COLUMNS[columns])
    width, height = 3.3 * columns + 0.4, 2.7 * rows + 0.75 + 0.2 * legend_rows
    figure = _figure(width, height)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    # By hand: an automatic layout draws everything twice.
    edges = {"left": 0.65 / width, "right": 1 - 0.1 / width, "top": 1 - 0.55 / height}
    figure.subplots_adjust(**edges, bottom=(0.6 + 0.2 * legend_rows) / height, wspace=0.08, hspace=0.3)
    for axes, structure in zip(grid.ravel(), results.structures, strict=False):
        _draw_curves(axes, results, numbers, metric, structure)
        axes.set_title(structure, fontsize=10)
    for axes in grid.ravel()[count:]:
        axes.set_axis_off()
    for index in range(columns):
        # Where the last row has gaps, the plots above them carry the axis.
        lowest = grid[(count - 1 - index) // columns, index]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("training cases")
    for axes in grid[:, 0]:
        axes.set_ylabel(metric_title(results, metric))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    ncols = min(_LEGEND_COLUMNS[columns], len(labels))
    figure.legend(handles, labels, loc="lower center", ncols=ncols, fontsize=8, frameon=False)
    _title(figure, results, f"{METRIC_NAMES[metric]} by structure, {_better(metric)}")
    path = _save(figure, folder / f"curve_{metric}_by_structure.png")
    return Picture(path, _caption(results), f"Learning curves of {METRIC_NAMES[metric]}, one plot per structure.")


def _draw_curves(axes: "Axes", results: Results, numbers: pd.DataFrame, metric: str, structure: str) -> None:
    positions = np.arange(len(results.sizes), dtype=float)
    # Side by side, so that intervals do not hide each other.
    step = min(0.06, 0.4 / max(1, len(results.methods)))
    chosen = numbers[(numbers["metric"] == metric) & (numbers["structure"] == structure)]
    for index, method in enumerate(results.methods):
        own = chosen[chosen["method"] == method]
        x = dict(zip(results.sizes, positions + (index - (len(results.methods) - 1) / 2) * step, strict=True))
        found = own[(own["kind"] == ESTIMATE) & own["mean"].notna()]
        dots = own[(own["kind"] == TRAINING) & own["mean"].notna()]
        color = CURVE_COLORS[index % len(CURVE_COLORS)]
        axes.plot(dots["size"].map(x), dots["mean"], ".", color=color, alpha=0.35, markersize=6, zorder=2)
        places = found["size"].map(x)
        axes.vlines(places, found["low"], found["high"], color=color, linewidth=1.6, alpha=0.8, zorder=3)
        axes.plot(
            places,
            found["mean"],
            color=color,
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle=_LINES[index % len(_LINES)],
            linewidth=1.4,
            markersize=5,
            label=method_label(results, method),
            zorder=4,
        )
    axes.set_xticks(positions, list(map(str, results.sizes)))
    axes.set_xlim(-0.5, len(positions) - 0.5)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _better(metric: str) -> str:
    return "higher is better" if metric in SHARES else "lower is better"


def _figure(width: float, height: float) -> "Figure":
    # The object-oriented way, because pyplot would choose a window system and keep the figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _title(figure: "Figure", results: Results, text: str) -> None:
    _note_random(figure, results)
    marks = [results.protocol.dataset, f"{results.part} cases"]
    marks += ["split by slice: patients leak"] * (results.protocol.rule == "slice")
    marks += ["legacy profile: for comparison only"] * (results.rules.profile != "standard")
    figure.text(0.5, 1 - 0.2 / figure.get_figheight(), f"{text} ({', '.join(marks)})", ha="center", fontsize=10)


def _caption(results: Results) -> str:
    text = (
        f"{len(results.cases)} {results.part} cases; bars: 95 % bootstrap intervals of the mean (patients and "
        "trainings resampled); dots: single trainings. Methods are set side by side at each size."
    )
    return f"{text} {random_note(results)}".strip()


def _note_random(figure: "Figure", results: Results, methods: Sequence[str] | None = None) -> None:
    """Writes into the lower left corner what the mark of some methods (None: of all) means, if one of them has it."""
    if random_note(results, methods):
        figure.text(0.005, 0.06 / figure.get_figheight(), f"{RANDOM_MARK} random SAM weights", fontsize=7)


def _save(figure: "Figure", path: Path, dpi: int = 130) -> Path:
    figure.savefig(path, dpi=dpi, format="png")
    return path


_PREDICTIONS = {"test": "predictions", "validation": "predictions_validation"}


def draw_overlays(results: Results, reference: str | None, size: int, count: int, folder: Path) -> Picture | None:
    """Draws cases side by side as folder/overlays_n<size>.png.

    Cases are ranked by the Dice that the reference method reaches (mean over structures, the seed of `chosen_seed`);
    those at `count` equally spaced percentiles from the 10th to the 90th are drawn, a single one at the 50th.

    Args:
        results: the study's.
        reference: method whose Dice ranks the cases; None for the first one.
        size: number of training cases.
        count: number of cases, at least 1.
        folder: of the PNG.

    Returns:
        The picture; None where no training of the size is finished, or label maps were removed.

    Raises:
        InputError: an image or label map is missing or unreadable.
    """
    ranking = reference or results.methods[0]
    seed = chosen_seed(results, ranking, size)
    if seed is None:
        return None
    methods = [m for m in results.methods if results.finished(m, size)[results.seeds.index(seed)]]
    if not all((RunKey(m, size, seed).folder(results.folder) / _PREDICTIONS[results.part]).is_dir() for m in methods):
        return None
    chosen = chosen_cases(results, ranking, size, seed, count)
    figure = _draw(results, methods, size, seed, chosen)
    path = _save(figure, folder / f"overlays_n{size}.png", dpi=120)
    percentiles = ", ".join(str(percentile) for percentile in chosen)
    caption = (
        f"{size} training cases, seed {seed} (the lowest one that most methods have finished). Cases at the "
        f"{percentiles}th percentile of the Dice of {ranking}, mean over structures; they were not chosen by eye. "
        f"Filled: prediction, line: reference. {random_note(results, methods)}"
    )
    names = ", ".join(methods)
    return Picture(path, caption.strip(), f"Segmentations of {len(chosen)} cases by {names}, beside the reference.")


def chosen_seed(results: Results, ranking: str, size: int) -> int | None:
    """The lowest seed that most methods have finished, among those that the ranking method has; None if it has none."""
    done = results.done[:, results.sizes.index(size)]
    counts = done.sum(axis=0) * results.finished(ranking, size)
    return results.seeds[int(np.argmax(counts))] if counts.any() else None


def chosen_cases(results: Results, ranking: str, size: int, seed: int, count: int) -> dict[int, str]:
    """Percentile -> case, of the cases that have a Dice; each case once."""
    dice = over_structures(results.of(ranking, size, "dice")[results.seeds.index(seed)])
    order = [int(index) for index in np.argsort(dice, kind="stable") if np.isfinite(dice[index])]
    percentiles = np.linspace(10, 90, count) if count > 1 else np.array([50.0])
    chosen: dict[int, str] = {}
    for percentile in percentiles.round().astype(int) if order else ():
        case = results.cases[order[round(percentile / 100 * (len(order) - 1))]]
        if case not in chosen.values():
            chosen[int(percentile)] = case
    return chosen


def _draw(results: Results, methods: list[str], size: int, seed: int, chosen: dict[int, str]) -> "Figure":
    from matplotlib.patches import Patch

    panels = {case: _panels(results, methods, size, seed, case) for case in chosen.values()}
    columns = 2 + len(methods)
    heights = [max(picture.shape[0] / picture.shape[1] for _, picture in row) for row in panels.values()]
    widths, top, bottom, left, gap = 2.1 * columns, 0.75, 0.45, 0.45, 0.3
    total = top + bottom + sum(2.1 * height + gap for height in heights)
    figure = _figure(left + widths, total)
    y = total - top
    for row, ((percentile, case), height) in enumerate(zip(chosen.items(), heights, strict=True)):
        y -= 2.1 * height
        # Placed by hand: an automatic layout takes longer than everything else in a report.
        figure.text(
            0.25 / (left + widths), (y + 1.05 * height) / total, f"{case}\n{percentile}th percentile",
            rotation=90, ha="center", va="center", fontsize=8,
        )  # fmt: skip
        for column, (title, picture) in enumerate(panels[case]):
            x = left + 2.1 * column
            rectangle = (x / (left + widths), y / total, 2.02 / (left + widths), 2.02 * height / total)
            axes = figure.add_axes(rectangle)
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
            # Names stand above the first row; the numbers, below them, above each.
            axes.set_title(title if row == 0 else title.partition("\nD ")[2] and title.splitlines()[-1], fontsize=8)
        y -= gap
    classes = results.protocol.labels.items()
    patches = [Patch(color=_fraction(v), label=name) for name, v in classes if isinstance(v, int) and v > 0]
    if patches:
        figure.legend(handles=patches, loc="lower center", ncols=min(8, len(patches)), fontsize=8, frameon=False)
    title = f"{size} training cases, seed {seed}; filled: prediction, line: reference; D: Dice (%)"
    _note_random(figure, results, methods)
    figure.text(0.5, 1 - 0.12 / total, title, ha="center", va="center", fontsize=9)
    return figure


def _panels(results: Results, methods: list[str], size: int, seed: int, case: str) -> list[tuple[str, NDArray]]:
    """Titles and pictures of one row."""
    image, reference = _read_case(results, case)
    plane = _plane(reference)
    row = results.cases.index(case)
    panels = [
        ("image", overlay(image[plane], None)),
        ("reference", overlay(image[plane], reference[plane], reference[plane])),
    ]
    for method in methods:
        file = RunKey(method, size, seed).folder(results.folder) / _PREDICTIONS[results.part]
        labels = _read_labels(file / f"{case}{results.protocol.file_ending}", reference.shape)
        dice = over_structures(results.of(method, size, "dice")[results.seeds.index(seed), row])
        title = f"{_short(method_label(results, method))}\nD {float(dice):.1f}"
        panels.append((title, overlay(image[plane], labels[plane], reference[plane])))
    return panels


def _short(label: str) -> str:
    """A label in two lines where it is long, broken before a capital letter."""
    if len(label) <= 18:
        return label
    breaks = [index for index in range(6, len(label) - 4) if label[index].isupper() and label[index - 1].islower()]
    best = min(breaks, key=lambda index: abs(index - len(label) / 2), default=len(label) // 2)
    return f"{label[:best]}\n{label[best:]}"


def _plane(reference: NDArray[np.integer]) -> int | tuple[()]:
    """The slice of a volume with most reference in it; everything of a picture."""
    if reference.ndim == 2:
        return ()
    return int(np.argmax((reference > 0).sum(axis=(1, 2))))


def _read_case(results: Results, case: str) -> tuple[NDArray, NDArray[np.integer]]:
    protocol = results.protocol
    if results.part == "test":
        folder, part = test_folder(results.folder), "Ts"
    else:
        first = min(protocol.subsets)
        folder, part = raw_folder(results.folder) / dataset_name(protocol, *first), "Tr"
    image = read_image(_existing(folder / f"images{part}" / image_name(case, protocol.file_ending))).pixels
    return image, _read_labels(folder / f"labels{part}" / f"{case}{protocol.file_ending}", None)


def _read_labels(path: Path, shape: tuple[int, ...] | None) -> NDArray[np.integer]:
    labels = read_labels(_existing(path)).pixels
    if shape is not None and labels.shape != shape:
        raise InputError(f"{path} has the size {labels.shape}, and its reference {shape}; make the run again")
    return labels


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing, which the pictures need; restore it, or leave them out by --overlays 0")
    return path


def _fraction(value: int) -> tuple[float, float, float]:
    red, green, blue = COLORS[(value - 1) % len(COLORS)]
    return red / 255, green / 255, blue / 255
