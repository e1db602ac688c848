"""Every number of a report as one long table: a line per mean, single training, and test."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from typing import Any

from nnsam.fewshot.report.estimates import Place, TableNumbers
from nnsam.fewshot.report.results import Results
from nnsam.fewshot.report.tables import random_runs

OVERALL = "mean over structures"
COLUMNS = (
    "kind", "part", "profile", "metric", "unit", "structure", "method", "random_sam_weights", "size", "seed",
    "reference", "mean", "std_cases", "std_trainings", "low", "high", "difference", "p_patients", "p_patients_holm",
    "p_trainings", "p_trainings_holm", "cases", "patients", "trainings", "trainings_expected", "missing",
)  # fmt: skip


def to_csv(tables: Iterable[tuple[Results, TableNumbers]]) -> str:
    """The numbers of tables as text; what is undefined is an empty field.

    Kinds: "estimate" (mean and interval), "training" (mean of one training), "test" (method minus reference; `low`
    and `high` are of the difference). `missing` counts pairs of training and case without a score.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for results, numbers in tables:
        for row in _rows(results, numbers):
            writer.writerow({name: "" if _is_nan(value) else value for name, value in row.items()})
    return buffer.getvalue()


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _rows(results: Results, numbers: TableNumbers) -> Iterator[dict[str, Any]]:
    random = {method: int(bool(random_runs(results, method))) for method in results.methods}
    for place, cell in numbers.cells.items():
        base = {**_base(results, place), "random_sam_weights": random[place.method]}
        found = cell.estimate
        if found is not None:
            names = ("mean", "std_cases", "std_trainings", "low", "high", "cases", "trainings", "missing")
            values = {name: getattr(found, name) for name in names}
            yield {**base, "kind": "estimate", "trainings_expected": cell.expected, **values}
        for seed, mean in cell.trainings.items():
            yield {**base, "kind": "training", "seed": seed, "mean": mean}
        test = numbers.tests.get(place)
        if test is not None:
            names = ("difference", "low", "high", "p_patients", "p_trainings", "patients", "trainings", "missing")
            values = {name: getattr(test.comparison, name) for name in names}
            adjusted = {"p_patients_holm": test.p_patients, "p_trainings_holm": test.p_trainings}
            yield {**base, "kind": "test", "reference": numbers.reference, **values, **adjusted}


def _base(results: Results, place: Place) -> dict[str, Any]:
    return {
        "part": results.part,
        "profile": results.rules.profile,
        "metric": place.metric,
        "unit": results.metric_unit(place.metric),
        "structure": OVERALL if place.structure is None else place.structure,
        "method": place.method,
        "size": place.size,
    }
