"""The figure of `nnsam bench cpu`: speed-ups over PyTorch, and the rows of Table 4, warm and cold."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.bench.cpu.run import PYTORCH
from nnsam.support.files import atomic_file, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes


JSON_NAME, PNG_NAME = "cpu.json", "cpu.png"


def check_folder(folder: str | Path) -> None:
    """Makes the folder.

    Raises:
        InputError: it cannot be written to.
    """
    probe = Path(folder) / f".{JSON_NAME}.probe"
    with atomic_file(probe):
        pass
    probe.unlink()


def write_results(result: dict[str, Any], folder: str | Path) -> None:
    """Writes the figures as JSON and as a plot; old ones are replaced.

    Args:
        result: see `bench_cpu`.
        folder: made if absent.

    Raises:
        InputError: it cannot be written to.
    """
    write_json(Path(folder) / JSON_NAME, result)
    plot_cpu(result, Path(folder) / PNG_NAME)


_COLOURS = {"OpenVINO f32": "#9db4c0", "OpenVINO bf16": "#5c6b73", "OpenVINO int8": "#253237"}


def plot_cpu(result: dict[str, Any], path: str | Path) -> None:
    """Draws what `bench_cpu` returns as a PNG.

    Args:
        result: see `bench_cpu`.
        path: of the PNG; replaced if it exists.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    comparisons = [entry for entry in result["comparisons"] if entry["reference"] == PYTORCH]
    panels = (1 if comparisons else 0) + (1 if result["rows"] else 0)
    figure = Figure(figsize=(7 * max(1, panels), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, max(1, panels), squeeze=False)[0])
    if comparisons:
        _plot_speedups(axes.pop(0), comparisons)
    if result["rows"]:
        _plot_rows(axes.pop(0), result["rows"])
    machine = result["machine"]
    title = f"{machine['processor']}, {result['threads']} threads\n{', '.join(machine['cpu_features'])}"
    figure.suptitle(title, fontsize="small")
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=100, format="png")


def _plot_speedups(axes: "Axes", comparisons: list[dict]) -> None:
    names = [name for name in _COLOURS if any(name == row["name"] for c in comparisons for row in c["candidates"])]
    height = 0.8 / max(1, len(names))
    for offset, name in enumerate(names):
        for place, entry in enumerate(comparisons):
            row = next((row for row in entry["candidates"] if row["name"] == name), None)
            if row is None:
                continue
            y, value = place + (offset - (len(names) - 1) / 2) * height, row["speedup"]
            errors = [[value - row["speedup_low"]], [row["speedup_high"] - value]]
            bars = axes.barh(y, value, height, xerr=errors, color=_COLOURS[name], label=None if place else name)
            axes.bar_label(bars, fmt="%.1f", padding=3, fontsize="small")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(comparisons)), [entry["name"] for entry in comparisons], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="times as fast as PyTorch float32 (median and range over the rounds)")
    axes.margins(x=0.12)
    handles = {name: axes.barh(0, 0, color=_COLOURS[name]) for name in names}
    handles_and_names = (handles.values(), handles.keys())
    axes.legend(
        *handles_and_names, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False
    )


def _plot_rows(axes: "Axes", rows: list[dict]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    series = {"warm": "warm_s", "cold, compiled model cached": "cold_s", "cold, nothing cached": "cold_uncached_s"}
    height = 0.8 / len(series)
    for offset, (label, key) in enumerate(series.items()):
        places = [place for place, row in enumerate(rows) if row.get(key) is not None]
        if places:
            y = [place + (offset - 1) * height for place in places]
            axes.barh(y, [rows[place][key] for place in places], height, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), [row_label(row) for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel=f"seconds ({rows[0]['precision']})")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def row_label(row: dict[str, Any]) -> str:
    """Name, size and boxes of a row, and how many slices of a volume were computed."""
    size = " x ".join(map(str, row["shape"][:2] if row["slices"] is None else row["shape"]))
    part = "" if row["slices"] in (None, row["shape"][0]) else f", {row['slices']} slices of it"
    return f"{row['name']}: {size}, {row['boxes']} box{'es' if row['boxes'] > 1 else ''}{part}"
