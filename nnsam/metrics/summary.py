"""Means over cases, and the files that hold an evaluation."""

import csv
import json
import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from nnsam.metrics.evaluation import ClassScore, Evaluation
from nnsam.metrics.profiles import PROFILES, Scores

OVERALL = "all classes"
OVERALL_OBJECTS = "all objects"  # where every case has classes of its own


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation over the `count` cases in which a score is defined; nan where too few."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True)
class Summary:
    """One class, or all of them, over the cases.

    Attributes:
        label: class name, `OVERALL`, or `OVERALL_OBJECTS`.
        cases: number of cases.
        missed: cases in which the class is in the reference and not in the prediction.
        false_alarms: cases in which it is in the prediction only.
        absent: cases in which it is in neither.
        scores: score name -> statistic.
    """

    label: str
    cases: int
    missed: int
    false_alarms: int
    absent: int
    scores: dict[str, Statistic]


def summarize(evaluation: Evaluation) -> list[Summary]:
    """One summary per class that the cases share, then one over all classes or objects.

    The last one takes each case's score over its classes first (their mean; the rules are the profile's), then mean
    and standard deviation over cases; its counts are of classes within cases.
    """
    rows = evaluation.rows
    summaries = [
        _summary(label, chosen, len(chosen), [row.scores for row in chosen])
        for label in evaluation.classes.values
        for chosen in [[row for row in rows if row.label == label]]
    ]
    by_case = case_scores(evaluation)
    overall = OVERALL if evaluation.classes.values else OVERALL_OBJECTS
    return [*summaries, _summary(overall, rows, len(by_case), list(by_case.values()))]


def case_scores(evaluation: Evaluation) -> dict[str, Scores]:
    """Case -> its scores over all classes, by the rules of the profile."""
    grouped: dict[str, list[Scores]] = {case: [] for case in evaluation.cases}
    for row in evaluation.rows:
        grouped.setdefault(row.case, []).append(row.scores)
    rules = PROFILES[evaluation.profile]
    return {case: rules.case_score(scores) for case, scores in grouped.items()}


def _summary(label: str, rows: list[ClassScore], cases: int, scores: list[Scores]) -> Summary:
    present = [(row.reference_pixels > 0, row.predicted_pixels > 0) for row in rows]
    return Summary(
        label,
        cases,
        present.count((True, False)),
        present.count((False, True)),
        present.count((False, False)),
        {name: _statistic([score[name] for score in scores]) for name in scores[0]},
    )


def _statistic(scores: list[float]) -> Statistic:
    values = np.array([score for score in scores if not math.isnan(score)])
    mean = float(values.mean()) if len(values) else math.nan
    std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Statistic(mean, std, len(values))


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON text; nan becomes null, since JSON has no nan."""
    content = {
        "profile": evaluation.profile,
        "options": asdict(evaluation.options),
        "unit": evaluation.unit,
        "classes": {name: list(values) for name, values in evaluation.classes.values.items()},
        "ignore": evaluation.classes.ignore,
        "classes_source": evaluation.classes_source,
        "case_scores": case_scores(evaluation),
        "summary": [asdict(summary) for summary in summarize(evaluation)],
        "cases": [asdict(row) for row in evaluation.rows],
        "failures": dict(evaluation.failures),
    }
    return json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_csv(evaluation: Evaluation, target: Path | TextIO) -> None:
    """Writes one line per case and class to a file or stream; undefined scores are empty fields."""
    names = PROFILES[evaluation.profile].score_names if not evaluation.rows else tuple(evaluation.rows[0].scores)
    with target.open("w", newline="", encoding="utf-8") if isinstance(target, Path) else nullcontext(target) as file:
        writer = csv.writer(file, lineterminator="\r\n" if isinstance(target, Path) else "\n")
        writer.writerow(["case", "class", "reference_pixels", "predicted_pixels", *names])
        for row in evaluation.rows:
            values = ["" if math.isnan(row.scores[name]) else repr(row.scores[name]) for name in names]
            writer.writerow([row.case, row.label, row.reference_pixels, row.predicted_pixels, *values])
