"""The report's tables of scores, as in nnSAM's paper, and what belongs under each: intervals, spread, tests."""

import math
from collections.abc import Callable, Iterator, Sequence

from nnsam.errors import InputError
from nnsam.fewshot.report.document import Table, TableCell, make_row
from nnsam.fewshot.report.estimates import Cell, Place, TableNumbers, Test, best_methods
from nnsam.fewshot.report.results import STOCK_METHODS, Results, has_random_sam
from nnsam.fewshot.report.statistics import SAMPLES

METRIC_NAMES = {"dice": "Dice", "asd": "ASD", "nsd": "NSD", "hd95": "HD95"}
RANDOM_MARK = "†"
# Their encoder is random on purpose, a control.
_RANDOM_BY_DESIGN = "RandomEncoder"


def metric_title(results: Results, metric: str) -> str:
    """Name with unit, e.g. "Dice (%)"."""
    return f"{METRIC_NAMES[metric]} ({results.metric_unit(metric)})"


def is_higher_better(metric: str) -> bool:
    """Dice and NSD: yes; distances: no."""
    return metric in ("dice", "nsd")


def method_label(results: Results, method: str) -> str:
    """The method's name, marked if a run of it used random SAM weights."""
    return f"{method} {RANDOM_MARK}" if random_runs(results, method) else method


def random_runs(results: Results, method: str) -> list[str]:
    """Names of the method's runs that used random SAM weights."""
    return [str(run.key) for run in results.runs if run.key.method == method and has_random_sam(run)]


def random_note(results: Results, methods: Sequence[str] | None = None) -> str:
    """What the mark means and whom of some methods (None: of all) it concerns; empty if nobody."""
    parts = []
    for method in results.methods if methods is None else methods:
        marked, all_runs = random_runs(results, method), [run for run in results.runs if run.key.method == method]
        if not marked:
            continue
        some = "" if len(marked) == len(all_runs) else f" in {len(marked)} of {len(all_runs)} runs: {', '.join(marked)}"
        parts.append(f"{method}{' (by design, a control)' if _RANDOM_BY_DESIGN in method else ''}{some}")
    if not parts:
        return ""
    return (
        f"{RANDOM_MARK} The frozen SAM encoder had random weights, not SAM's: {'; '.join(parts)}. "
        "Such scores say nothing about what SAM's weights do."
    )


def format_p(p: float) -> str:
    """A p value for a table."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def find_reference(results: Results, wanted: str | None) -> str | None:
    """The method that others are compared with.

    Args:
        results: the study's.
        wanted: its name, or None for nnU-Net if it is among the methods.

    Returns:
        A method, or None if none was asked for and nnU-Net has no runs.

    Raises:
        InputError: no runs of the wanted method.
    """
    if wanted is None:
        return next((name for name in STOCK_METHODS if name in results.methods), None)
    if wanted not in results.methods:
        raise InputError(f"there are no runs of the reference method {wanted}; there are {', '.join(results.methods)}")
    return wanted


NOTHING = "-"
MINUS = "\N{MINUS SIGN}"
_Text = Callable[[Place], str]


def overall_tables(results: Results, numbers: TableNumbers) -> list[Table]:
    """Rows: method and metric; columns: sizes."""

    def table(caption: str, text: _Text, methods: Sequence[str], notes: Sequence[str], bold: set[Place]) -> Table:
        rows = []
        for method in methods:
            for row, metric in enumerate(numbers.metrics):
                places = [Place(method, size, metric, None) for size in results.sizes]
                cells = [TableCell(text(place), place in bold) for place in places]
                label = "" if row else method_label(results, method)
                rows.append(make_row([label, metric_title(results, metric), *cells]))
        sizes = [f"n = {size}" for size in results.sizes]
        return Table(caption, ("Method", "Metric", *sizes), tuple(rows), tuple(notes))

    return list(_group(results, numbers, "Means over structures", table))


def structure_tables(results: Results, numbers: TableNumbers) -> list[Table]:
    """Rows: method and size; columns: structures. One metric."""
    (metric,) = numbers.metrics

    def table(caption: str, text: _Text, methods: Sequence[str], notes: Sequence[str], bold: set[Place]) -> Table:
        rows = []
        for method in methods:
            for row, size in enumerate(results.sizes):
                places = [Place(method, size, metric, structure) for structure in numbers.structures]
                cells = [TableCell(text(place), place in bold) for place in places]
                rows.append(make_row(["" if row else method_label(results, method), str(size), *cells]))
        columns = ("Method", "n", *map(str, numbers.structures))
        return Table(caption, columns, tuple(rows), tuple(notes))

    return list(_group(results, numbers, f"{metric_title(results, metric)} by structure", table))


def _group(
    results: Results,
    numbers: TableNumbers,
    title: str,
    table: Callable[[str, _Text, Sequence[str], Sequence[str], set[Place]], Table],
) -> Iterator[Table]:
    cells, best = numbers.cells, best_methods(numbers, results.methods)
    notes = ["Bold: the best mean of its column, which alone says nothing about significance."] if best else []
    if any(cell.is_partial for cell in cells.values()):
        notes.append("(n of m): so many of the m trainings are finished; the number is theirs.")
    yield table(
        f"{title}: mean ± standard deviation over cases, each case averaged over trainings",
        lambda place: _mean(cells[place]),
        results.methods,
        notes,
        best,
    )
    yield table(
        f"{title}: 95 % bootstrap intervals of the mean (patients and trainings resampled)",
        lambda place: _interval(cells[place]),
        results.methods,
        [_interval_note(results, numbers)],
        set(),
    )
    yield table(
        f"{title}: standard deviation over trainings (run-to-run, of the means over cases)",
        lambda place: _spread(cells[place]),
        results.methods,
        (),
        set(),
    )
    others = [method for method in results.methods if method != numbers.reference]
    if numbers.tests:
        yield table(
            f"{title}: difference from {numbers.reference} with 95 % interval; p over patients / p over trainings",
            lambda place: _test(numbers.tests.get(place)),
            others,
            _test_notes(results, numbers),
            set(),
        )


def _mean(cell: Cell) -> str:
    if cell.estimate is None:
        return NOTHING + _partial(cell)
    spread = "" if math.isnan(cell.estimate.std_cases) else f" ± {cell.estimate.std_cases:.2f}"
    return f"{cell.estimate.mean:.2f}{spread}{_partial(cell)}"


def _partial(cell: Cell) -> str:
    return f" ({len(cell.trainings)} of {cell.expected})" if cell.is_partial else ""


def _interval(cell: Cell) -> str:
    return NOTHING if cell.estimate is None else f"[{cell.estimate.low:.2f}, {cell.estimate.high:.2f}]"


def _interval_note(results: Results, numbers: TableNumbers) -> str:
    fewest = min((len(cell.trainings) for cell in numbers.cells.values() if cell.trainings), default=0)
    note = (
        f"Percentiles of {SAMPLES} bootstrap samples, seed 0, of {len(set(results.patients))} patients and "
        f"{len(results.seeds)} trainings; with few of either, such intervals are rather too narrow."
    )
    return note + " A single training's interval knows nothing of the run-to-run spread." * (fewest == 1)


def _spread(cell: Cell) -> str:
    if cell.estimate is None or math.isnan(cell.estimate.std_trainings):
        return NOTHING
    return f"{cell.estimate.std_trainings:.2f} ({cell.estimate.trainings})"


def _test(test: Test | None) -> str:
    if test is None:
        return NOTHING
    found = test.comparison
    return (
        f"{_signed(found.difference)} [{_signed(found.low)}, {_signed(found.high)}]; "
        f"p {format_p(test.p_patients)} / {format_p(test.p_trainings)}"
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", MINUS)


def _test_notes(results: Results, numbers: TableNumbers) -> list[str]:
    tests = list(numbers.tests.values())
    higher = [METRIC_NAMES[metric] for metric in numbers.metrics if is_higher_better(metric)]
    lower = [METRIC_NAMES[metric] for metric in numbers.metrics if not is_higher_better(metric)]
    better = [f"above 0 is better for {' and '.join(higher)}"] * bool(higher)
    better += [f"below 0 is better for {' and '.join(lower)}"] * bool(lower)
    most = max(test.comparison.trainings for test in tests)
    people = max(test.comparison.patients for test in tests)
    notes = [
        f"Method minus {numbers.reference}, over the trainings, cases and structures that both have; "
        f"{'; '.join(better)}.",
        f"Both p are adjusted by Holm's method for the {len(tests)} tests of this table. p over patients: Wilcoxon's "
        "signed-rank test over patients (would other patients show the difference, for these trainings?). p over "
        "trainings: exact sign-flip test over trainings (would other trainings?).",
        f"The smallest p that {most} trainings allow is {_smallest(most)} before the adjustment, "
        f"{_smallest(most, len(tests))} after it; "
        f"{people} patients allow {_smallest(people)} and {_smallest(people, len(tests))}. A larger p than 0.05 "
        "therefore need not mean that there is no difference.",
    ]
    missing = sum(test.comparison.missing for test in tests)
    if missing:
        notes.append(
            f"{missing} pairs (over all tests of the table) lack one or both scores because of empty masks and are "
            "left out of the tests."
        )
    return notes


def _smallest(count: int, tests: int = 1) -> str:
    """Smallest two-sided p of a sign test of so many, after Holm's factor for the first of so many tests."""
    return format_p(min(1.0, tests * 2.0 ** (1 - count)))
