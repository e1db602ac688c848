"""Every number of a report in one tidy table: means with intervals, single trainings, paired tests."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnsam.fewshot.report.results import SHARES, Results, over_structures, random_runs
from nnsam.fewshot.report.statistics import Comparison, compare, estimate, holm

OVERALL = "mean over structures"
ESTIMATE, TRAINING, TEST = "estimate", "training", "test"
_TEXTS = ("kind", "part", "profile", "metric", "unit", "structure", "method", "reference")
_COUNTS = ("random_sam_weights", "size", "seed", "cases", "patients", "trainings", "trainings_expected", "missing")
COLUMNS = (
    "kind", "part", "profile", "metric", "unit", "structure", "method", "random_sam_weights", "size", "seed",
    "reference", "mean", "std_cases", "std_trainings", "low", "high", "difference", "p_patients", "p_patients_holm",
    "p_trainings", "p_trainings_holm", "cases", "patients", "trainings", "trainings_expected", "missing",
)  # fmt: skip


def overall_numbers(results: Results, metrics: Sequence[str], reference: str | None) -> pd.DataFrame:
    """Means over structures; their tests are one family for Holm's correction.

    A case's score is the mean over its structures that have one. A test compares the structures, cases and trainings
    that both methods have, so that its difference need not be that of the two means.

    Args:
        results: the study's.
        metrics: of `METRICS`.
        reference: method that the others are compared with; None: no tests.

    Returns:
        `COLUMNS`, what is undefined is missing. A line per kind: "estimate" (mean and interval; without a mean where no
        case has a score), "training" (mean of one training), "test" (method minus reference; `low` and `high` are of
        the difference). `missing` counts pairs of training and case without a score.
    """
    return _numbers(results, metrics, (OVERALL,), reference)


def structure_numbers(results: Results, metric: str, reference: str | None) -> pd.DataFrame:
    """As :func:`overall_numbers`, of one metric by structure, whose tests are one family."""
    return _numbers(results, [metric], results.structures, reference)


def _numbers(
    results: Results, metrics: Sequence[str], structures: Sequence[str], reference: str | None
) -> pd.DataFrame:
    rows = [
        row
        for method in results.methods
        for metric in metrics
        for size in results.sizes
        for structure in structures
        for row in _rows(results, method, metric, size, structure, reference)
    ]
    kinds = {name: "object" if name in _TEXTS else "Int64" if name in _COUNTS else "float64" for name in COLUMNS}
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)
    for name in ("p_patients", "p_trainings"):
        table[f"{name}_holm"] = holm(table[name])
    return table


def _rows(
    results: Results, method: str, metric: str, size: int, structure: str, reference: str | None
) -> Iterator[dict[str, Any]]:
    base = {
        "part": results.part,
        "profile": results.rules.profile,
        "metric": metric,
        "unit": results.metric_unit(metric),
        "structure": structure,
        "method": method,
        "random_sam_weights": int(bool(random_runs(results, method))),
        "size": size,
    }
    finished = results.finished(method, size)
    table = over_structures(_scores(results, method, metric, size, structure))[finished]
    found = asdict(estimate(table, results.patients)) if np.isfinite(table).any() else {"trainings": len(table)}
    yield {**base, "kind": ESTIMATE, "trainings_expected": len(results.seeds), **found}
    for seed, mean in zip(np.array(results.seeds)[finished], over_structures(table), strict=True):
        yield {**base, "kind": TRAINING, "seed": seed, "mean": mean}
    if reference not in (None, method):
        comparison = _compare(results, method, metric, size, structure, str(reference))
        if comparison is not None:
            yield {**base, "kind": TEST, "reference": reference, **asdict(comparison)}


def _scores(results: Results, method: str, metric: str, size: int, structure: str) -> NDArray[np.float64]:
    """(S, N, C); a single structure has C = 1."""
    scores = results.of(method, size, metric)
    return scores if structure == OVERALL else scores[..., [results.structures.index(structure)]]


def _compare(
    results: Results, method: str, metric: str, size: int, structure: str, reference: str
) -> Comparison | None:
    both = results.finished(method, size) & results.finished(reference, size)
    pair = [_scores(results, name, metric, size, structure)[both] for name in (method, reference)]
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not known.any():
        return None
    first, second = (over_structures(np.where(known, scores, np.nan)) for scores in pair)
    return compare(first, second, results.patients)


def best_means(estimates: pd.DataFrame) -> "pd.Series[bool]":
    """Which estimates are the best mean of their metric, size and structure; none where a single method has one."""
    means = estimates["mean"].where(estimates["metric"].isin(SHARES), -estimates["mean"])
    columns = means.groupby([estimates[name] for name in ("metric", "size", "structure")])
    return (means == columns.transform("max")) & (columns.transform("count") > 1)


def to_csv(numbers: pd.DataFrame) -> str:
    """The table as text; what is undefined is an empty field."""
    has_number = (numbers["kind"] != ESTIMATE) | numbers["mean"].notna()
    return str(numbers[has_number].to_csv(index=False, lineterminator="\n"))
