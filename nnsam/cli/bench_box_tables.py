"""Tables of `nnsam bench box`."""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_box_tables(result: dict) -> None:
    """Prints what `bench_box` returns."""
    # Wide enough for the tables where the output is not a terminal but a file or a pipe.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(_sizes(result["rows"]))
    load, machine = result["boxes_241"], result["machine"]
    memory = "" if load["peak_mb"] is None else f", peak memory {load['peak_mb']:.0f} MB"
    console.print(
        f"zoom, time per box over the sizes: {result['zoom_time_spread']:.1%} spread; "
        f"{result['passes_per_box']:.2f} network passes per box\n"
        f"{load['boxes']} boxes in {_by(load['size'])}: {load['seconds']:.1f} s{memory}; time per box "
        f"{load['linearity']:.2f} times that of {load['few']} boxes"
    )
    if result["accuracy"] is not None:
        _print_accuracy(console, result["accuracy"])
    console.print(
        f"{escape(result['model'])}, patch {_by(result['patch_size'])}; {machine['processor']}, "
        f"{machine['cores']} cores, {', '.join(machine['cpu_features'])}"
    )


def _by(size: list[int]) -> str:
    return " x ".join(map(str, size))


def _sizes(rows: list[dict]) -> Table:
    table = Table("image", title="one box, the middle 60 % of the image")
    for name in ("zoom (s)", "set image (s)", "passes zoom", "passes faithful", "by the published rule"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            _by(row["size"]),
            f"{row['zoom_seconds']:.3f}",
            f"{row['set_image_seconds']:.3f}",
            str(row["zoom_passes"]),
            str(row["faithful_passes"]),
            str(row["faithful_rule"]),
        )
    return table


def _print_accuracy(console: Console, accuracy: dict) -> None:
    modes = accuracy["modes"]
    table = Table("set", title="mean over cases of DSC | NSD (tolerance 2 mm or pixels)")
    for name in ("cases", "objects", "larger than patch", *modes):
        table.add_column(name, justify="right")
    for name, entry in accuracy["sets"].items():
        counts = (entry["cases"], entry["objects"], entry["larger_than_patch"])
        table.add_row(escape(name), *map(str, counts), *(_scores(entry["modes"][mode]) for mode in modes))
    table.add_section()
    larger = accuracy["larger_than_patch"]
    table.add_row("mean over sets", "", "", "", *(_scores(accuracy["mean"][mode]) for mode in modes))
    if larger["objects"]:
        scores = [_scores(larger["modes"][mode]) for mode in modes]
        table.add_row("objects larger than a patch", "", str(larger["objects"]), "", *scores)
    console.print(table)
    for mode, found in accuracy["above_ellipse"].items():
        if found["of"]:
            share = f"{found['sets']} of {found['of']}"
            console.print(f"{mode}: DSC above the ellipse's on {share} sets with more than 2 cases")
    below = accuracy["zoom_below_faithful"]
    if below is not None:
        where = "below" if below["DSC"] > 0 else "above"
        console.print(f"zoom at worst {100 * abs(below['DSC']):.1f} DSC points {where} faithful, on {below['set']}")
    for name, reason in accuracy["skipped"].items():
        console.print(f"left out: {name} ({reason})", markup=False)


def _scores(scores: dict) -> str:
    return " | ".join("-" if scores[name] is None else f"{scores[name]:.3f}" for name in ("DSC", "NSD"))
