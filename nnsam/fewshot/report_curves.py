"""Learning curves: score over number of training cases, with intervals and single trainings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnsam.fewshot.report_document import Picture
from nnsam.fewshot.report_estimates import Place, TableNumbers
from nnsam.fewshot.report_words import (
    METRIC_NAMES,
    RANDOM_MARK,
    is_higher_better,
    method_label,
    metric_title,
    random_note,
)
from nnsam.fewshot.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (without yellow, too pale for a line), told apart with any colour vision, and in print by
# marker and line.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")
_WIDTH, _HEIGHT = 7.2, 4.6
_LEGEND_COLUMNS = {1: 1, 2: 2, 3: 4}  # by columns of plots


def draw_overall(results: Results, numbers: TableNumbers, metric: str, folder: Path) -> Picture:
    """Draws the mean over structures of one metric as folder/curve_<metric>.png."""
    figure = _figure(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.09, 0.11, 0.89, 0.80))
    _draw(axes, results, numbers, metric, None)
    axes.set(xlabel="training cases", ylabel=f"{metric_title(results, metric)}, {_better(metric)}")
    axes.legend(fontsize=8, frameon=False, loc="best")
    _title(figure, results, f"{METRIC_NAMES[metric]}, mean over structures")
    path = _save(figure, folder / f"curve_{metric}.png")
    return Picture(path, _caption(results), f"Learning curves of {METRIC_NAMES[metric]}, one line per method.")


def draw_structures(results: Results, numbers: TableNumbers, metric: str, folder: Path) -> Picture:
    """Draws one small plot per structure as folder/curve_<metric>_by_structure.png."""
    count = len(numbers.structures)
    columns = min(3, count)
    rows = -(-count // columns)
    legend_rows = -(-len(results.methods) // _LEGEND_COLUMNS[columns])
    width, height = 3.3 * columns + 0.4, 2.7 * rows + 0.75 + 0.2 * legend_rows
    figure = _figure(width, height)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    # By hand: an automatic layout draws everything twice.
    edges = {"left": 0.65 / width, "right": 1 - 0.1 / width, "top": 1 - 0.55 / height}
    figure.subplots_adjust(**edges, bottom=(0.6 + 0.2 * legend_rows) / height, wspace=0.08, hspace=0.3)
    for axes, structure in zip(grid.ravel(), numbers.structures, strict=False):
        _draw(axes, results, numbers, metric, structure)
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


def _draw(axes: "Axes", results: Results, numbers: TableNumbers, metric: str, structure: str | None) -> None:
    positions = np.arange(len(results.sizes), dtype=float)
    # Side by side, so that intervals do not hide each other.
    step = min(0.06, 0.4 / max(1, len(results.methods)))
    for index, method in enumerate(results.methods):
        cells = [numbers.cells[Place(method, size, metric, structure)] for size in results.sizes]
        x = positions + (index - (len(results.methods) - 1) / 2) * step
        known = [place for place, cell in enumerate(cells) if cell.estimate is not None]
        found = [(cells[place].estimate) for place in known]
        means = np.array([one.mean for one in found if one is not None])
        ends = np.array([(one.low, one.high) for one in found if one is not None]).reshape(-1, 2)
        color = COLORS[index % len(COLORS)]
        dots = [(x[place], mean) for place in known for mean in cells[place].trainings.values() if np.isfinite(mean)]
        axes.plot(*zip(*dots, strict=True), ".", color=color, alpha=0.35, markersize=6, zorder=2) if dots else None
        axes.vlines(x[known], ends[:, 0], ends[:, 1], color=color, linewidth=1.6, alpha=0.8, zorder=3)
        axes.plot(
            x[known],
            means,
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
    return "higher is better" if is_higher_better(metric) else "lower is better"


def _figure(width: float, height: float) -> "Figure":
    # The object-oriented way, because pyplot would choose a window system and keep the figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _title(figure: "Figure", results: Results, text: str) -> None:
    add_random_note(figure, results)
    marks = [results.protocol.dataset, f"{results.part} cases"]
    marks += ["split by slice: patients leak"] * (results.protocol.rule == "slice")
    marks += ["legacy profile: for comparison only"] * (results.rules.profile != "standard")
    figure.text(0.5, 1 - 0.2 / figure.get_figheight(), f"{text} ({', '.join(marks)})", ha="center", fontsize=10)


def _caption(results: Results) -> str:
    parts = [
        f"{len(results.cases)} {results.part} cases; bars: 95 % bootstrap intervals of the mean (patients and "
        "trainings resampled); dots: single trainings. Methods are set side by side at each size."
    ]
    return " ".join([*parts, random_note(results)]).strip()


def add_random_note(figure: "Figure", results: Results, methods: Sequence[str] | None = None) -> None:
    """Writes into the lower left corner what the mark of methods with random SAM weights means, if one of them has it.

    Args:
        figure: to write on.
        results: the study's.
        methods: those on the figure; None for all.
    """
    if random_note(results, methods):
        figure.text(0.005, 0.06 / figure.get_figheight(), f"{RANDOM_MARK} random SAM weights", fontsize=7)


def _save(figure: "Figure", path: Path) -> Path:
    figure.savefig(path, dpi=130, format="png")
    return path
