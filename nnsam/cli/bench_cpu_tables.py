"""Tables of `nnsam bench cpu`."""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_cpu_tables(result: dict) -> None:
    """Prints what `bench_cpu` returns."""
    # Wide enough for the tables where the output is not a terminal but a file or a pipe.
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    if result["comparisons"]:
        console.print(_comparisons(result["comparisons"]))
    if result["rows"]:
        console.print(_rows(result["rows"]))
        if any(row["slices"] not in (None, row["shape"][0]) for row in result["rows"]):
            console.print("* seconds of that part of the volume; see the column per slice and object")
    for note in result["notes"]:
        console.print(f"note: {note}", markup=False)
    machine, versions = result["machine"], result["versions"]
    console.print(
        f"{escape(result['model'])}; {machine['processor']}, {result['threads']} threads, "
        f"{', '.join(machine['cpu_features'])}; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items() if version)}"
    )


def _comparisons(comparisons: list[dict]) -> Table:
    table = Table("what", "candidate", title="side by side, in turn (median of the rounds)")
    for name in ("seconds", "quickest", "times as fast", "range", "by the quickest rounds"):
        table.add_column(name, justify="right")
    for entry in comparisons:
        for index, row in enumerate(sorted(entry["candidates"], key=lambda row: row["name"] != entry["reference"])):
            same = row["name"] == entry["reference"]
            table.add_row(
                "" if index else entry["name"],
                row["name"],
                f"{row['median_s']:.4f}",
                f"{row['min_s']:.4f}",
                "1" if same else f"{row['speedup']:.2f}",
                "" if same else f"{row['speedup_low']:.2f} to {row['speedup_high']:.2f}",
                "" if same else f"{row['speedup_of_minima']:.2f}",
            )
        table.add_section()
    return table


def _rows(rows: list[dict]) -> Table:
    table = Table("case", "size", title="shapes of Table 4 of Stock et al., zoom mode")
    for name in ("boxes", "precision", "warm (s)", "per slice, object", "cold (s)", "nothing cached", "peak (MB)"):
        table.add_column(name, justify="right")
    for row in rows:
        part = row["slices"] not in (None, row["shape"][0])
        size = " x ".join(map(str, row["shape"]))
        first = [row["name"], f"{size}, {row['slices']} slices*" if part else size, str(row["boxes"])]
        for precision, figures in row["precisions"].items():
            table.add_row(
                *first,
                "PyTorch f32" if precision == "pytorch" else precision,
                f"{figures['warm_s']:.3f}",
                _number(figures.get("s_per_slice_and_object"), 3),
                _number(figures.get("cold_s"), 2),
                _number(figures.get("cold_uncached_s"), 2),
                _number(figures.get("peak_mb"), 0),
            )
            first = ["", "", ""]
        table.add_section()
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
