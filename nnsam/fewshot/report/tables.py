"""The report's tables as text: scores as in nnSAM's paper, empty masks, times; and what belongs under each."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnsam.errors import InputError
from nnsam.fewshot.report.numbers import ESTIMATE, TEST, best_means
from nnsam.fewshot.report.results import SHARES, STOCK_METHODS, Results, random_runs
from nnsam.fewshot.report.statistics import SAMPLES
from nnsam.fewshot.runs.state import DONE

METRIC_NAMES = {"dice": "Dice", "asd": "ASD", "nsd": "NSD", "hd95": "HD95"}
RANDOM_MARK = "†"
NOTHING = "-"
MINUS = "\N{MINUS SIGN}"
# Their encoder is random on purpose, a control.
_RANDOM_BY_DESIGN = "RandomEncoder"


class Bold(str):
    """Text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: above it.
        columns: headings; the first `labels` columns are text, the others numbers.
        rows: as many cells each as there are columns. An empty first cell repeats the one above.
        notes: below it.
        labels: number of leading text columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 2

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        assert not wrong, f"rows of {wrong} cells in a table of {len(self.columns)} columns"

    @property
    def is_grouped(self) -> bool:
        """Whether rows belong together by an empty first cell."""
        return any(not row[0] for row in self.rows)


def metric_title(results: Results, metric: str) -> str:
    """Name with unit, e.g. "Dice (%)"."""
    return f"{METRIC_NAMES[metric]} ({results.metric_unit(metric)})"


def method_label(results: Results, method: str) -> str:
    """The method's name, marked if a run of it used random SAM weights."""
    return f"{method} {RANDOM_MARK}" if random_runs(results, method) else method


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


def overall_tables(results: Results, numbers: pd.DataFrame) -> list[Table]:
    """Tables of :func:`nnsam.fewshot.report.numbers.overall_numbers`; rows: method and metric; columns: sizes."""
    titles = [metric_title(results, metric) for metric in numbers["metric"]]
    placed = numbers.assign(row=titles, column=[f"n = {size}" for size in numbers["size"]])
    return _tables(results, placed, "Means over structures", "Metric")


def structure_tables(results: Results, numbers: pd.DataFrame) -> list[Table]:
    """Tables of :func:`nnsam.fewshot.report.numbers.structure_numbers`; rows: method and size; columns: structures."""
    placed = numbers.assign(row=numbers["size"].astype(str), column=numbers["structure"])
    return _tables(results, placed, f"{metric_title(results, numbers['metric'].iloc[0])} by structure", "n")


def _tables(results: Results, numbers: pd.DataFrame, title: str, row_name: str) -> list[Table]:
    """Tables of one family of numbers, which have their `row` and `column`."""
    estimates, tests = (numbers[numbers["kind"] == kind] for kind in (ESTIMATE, TEST))
    estimates = estimates.assign(is_best=best_means(estimates))
    lines, columns = numbers["row"].unique(), numbers["column"].unique()

    def table(
        caption: str,
        chosen: pd.DataFrame,
        text: Callable[[Any], str],
        notes: Iterable[str],
        leave_out: str | None = None,
    ) -> Table:
        texts = {(found.method, found.row, found.column): text(found) for found in chosen.itertuples()}
        rows = [
            (
                "" if index else method_label(results, method),
                line,
                *(texts.get((method, line, column), NOTHING) for column in columns),
            )
            for method in results.methods
            if method != leave_out
            for index, line in enumerate(lines)
        ]
        return Table(f"{title}: {caption}", ("Method", row_name, *columns), tuple(rows), tuple(notes))

    notes = ["Bold: the best mean of its column, which alone says nothing about significance."]
    notes *= bool(estimates["is_best"].any())
    if (estimates["trainings"] < estimates["trainings_expected"]).any():
        notes.append("(n of m): so many of the m trainings are finished; the number is theirs.")
    averaged = "mean ± standard deviation over cases, each case averaged over trainings"
    resampled = "95 % bootstrap intervals of the mean (patients and trainings resampled)"
    spread = "standard deviation over trainings (run-to-run, of the means over cases)"
    found = [
        table(averaged, estimates, _mean, notes),
        table(resampled, estimates, _interval, [_interval_note(results, estimates)]),
        table(spread, estimates, _spread, ()),
    ]
    if len(tests):
        reference = tests["reference"].iloc[0]
        compared = f"difference from {reference} with 95 % interval; p over patients / p over trainings"
        found.append(table(compared, tests, _test, _test_notes(tests, numbers["metric"].unique()), reference))
    return found


def _mean(found: Any) -> str:
    is_partial = found.trainings < found.trainings_expected
    partial = f" ({found.trainings} of {found.trainings_expected})" if is_partial else ""
    if math.isnan(found.mean):
        return NOTHING + partial
    spread = "" if math.isnan(found.std_cases) else f" ± {found.std_cases:.2f}"
    text = f"{found.mean:.2f}{spread}{partial}"
    return Bold(text) if found.is_best else text


def _interval(found: Any) -> str:
    return NOTHING if math.isnan(found.mean) else f"[{found.low:.2f}, {found.high:.2f}]"


def _interval_note(results: Results, estimates: pd.DataFrame) -> str:
    trainings = estimates["trainings"]
    note = (
        f"Percentiles of {SAMPLES} bootstrap samples, seed 0, of {len(set(results.patients))} patients and "
        f"{len(results.seeds)} trainings; with few of either, such intervals are rather too narrow."
    )
    is_single = trainings[trainings > 0].min() == 1
    return note + " A single training's interval knows nothing of the run-to-run spread." * bool(is_single)


def _spread(found: Any) -> str:
    return NOTHING if math.isnan(found.std_trainings) else f"{found.std_trainings:.2f} ({found.trainings})"


def _test(found: Any) -> str:
    return (
        f"{_signed(found.difference)} [{_signed(found.low)}, {_signed(found.high)}]; "
        f"p {format_p(found.p_patients_holm)} / {format_p(found.p_trainings_holm)}"
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", MINUS)


def format_p(p: float) -> str:
    """A p value for a table."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _test_notes(tests: pd.DataFrame, metrics: Iterable[str]) -> list[str]:
    higher = [METRIC_NAMES[metric] for metric in metrics if metric in SHARES]
    lower = [METRIC_NAMES[metric] for metric in metrics if metric not in SHARES]
    better = [f"above 0 is better for {' and '.join(higher)}"] * bool(higher)
    better += [f"below 0 is better for {' and '.join(lower)}"] * bool(lower)
    most, people, missing = tests["trainings"].max(), tests["patients"].max(), tests["missing"].sum()
    notes = [
        f"Method minus {tests['reference'].iloc[0]}, over the trainings, cases and structures that both have; "
        f"{'; '.join(better)}.",
        f"Both p are adjusted by Holm's method for the {len(tests)} tests of this table. p over patients: Wilcoxon's "
        "signed-rank test over patients (would other patients show the difference, for these trainings?). p over "
        "trainings: exact sign-flip test over trainings (would other trainings?).",
        f"The smallest p that {most} trainings allow is {_smallest(most)} before the adjustment, "
        f"{_smallest(most, len(tests))} after it; "
        f"{people} patients allow {_smallest(people)} and {_smallest(people, len(tests))}. A larger p than 0.05 "
        "therefore need not mean that there is no difference.",
    ]
    if missing:
        notes.append(
            f"{missing} pairs (over all tests of the table) lack one or both scores because of empty masks and are "
            "left out of the tests."
        )
    return notes


def _smallest(count: int, tests: int = 1) -> str:
    """Smallest two-sided p of a sign test of so many, after Holm's factor for the first of so many tests."""
    return format_p(min(1.0, tests * 2.0 ** (1 - count)))


def empty_masks(results: Results) -> Table:
    """Counts of empty masks per method and size."""
    rows = []
    absent = results.empty_reference
    for method in results.methods:
        for row, size in enumerate(results.sizes):
            finished = results.finished(method, size)
            empty = results.empty_prediction[results.methods.index(method), results.sizes.index(size)][finished]
            undefined = np.isnan(results.of(method, size, "asd")[finished])
            masks = (empty & ~absent, ~empty & absent, empty & absent, undefined)
            counts = (empty.size, *(int(mask.sum()) for mask in masks))
            rows.append(("" if row else method_label(results, method), str(size), *map(str, counts)))
    notes = (
        f"Of the {absent.size} pairs of case and structure, {int(absent.sum())} have an empty reference.",
        "Total miss: the reference holds the structure and the prediction does not. False alarm: the other way round. "
        "A method with many total misses has a flattering mean ASD and HD95 where these cases have no distance: read "
        "them together with Dice and NSD, in which they count as 0.",
    )
    columns = ("Method", "n", "scores", "total misses", "false alarms", "empty in both", "without ASD")
    return Table("Empty masks, counted over trainings, cases and structures", columns, tuple(rows), notes)


def times(results: Results) -> Table:
    """Seconds per step, hours and restarts of each method's finished runs."""
    finished = [run for run in results.runs if run.state == DONE]
    steps = list(dict.fromkeys(step for run in finished for step in run.seconds))
    rows = []
    for method in results.methods:
        runs = [run for run in finished if run.key.method == method]
        if runs:
            means = [sum(run.seconds.get(step, 0.0) for run in runs) / len(runs) for step in steps]
            hours = sum(sum(run.seconds.values()) for run in runs) / 3600
            restarts = sum(max(0, run.attempts - 1) for run in runs)
            cells = (str(len(runs)), *(f"{seconds:.1f}" for seconds in means), f"{hours:.2f}", str(restarts))
            rows.append((method_label(results, method), *cells))
    columns = ("Method", "runs", *(f"{step} (s per run)" for step in steps), "hours in all", "restarts")
    return Table("Time", columns, tuple(rows), labels=1)


def list_hashes(results: Results) -> Table:
    """SHA-256 of each list of cases."""
    rows = tuple((name, f"`{digest}`") for name, digest in results.protocol.list_hashes().items())
    return Table("SHA-256 of the lists of cases", ("List", "SHA-256 of the sorted names"), rows)
