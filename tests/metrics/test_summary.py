import csv
import json
import math

import pytest

from nnsam.metrics.classes import Classes
from nnsam.metrics.evaluation import ClassScore, Evaluation
from nnsam.metrics.profiles import ScoringOptions
from nnsam.metrics.summary import OVERALL, summarize, to_json, write_csv


@pytest.fixture
def evaluation():
    nan = math.nan
    rows = [
        ClassScore("x", "a", 10, 10, {"DSC": 0.8, "ASD": 1.0}),
        ClassScore("x", "b", 10, 0, {"DSC": 0.0, "ASD": nan}),
        ClassScore("y", "a", 10, 10, {"DSC": 0.6, "ASD": 3.0}),
        ClassScore("y", "b", 0, 0, {"DSC": nan, "ASD": nan}),
        ClassScore("z", "a", 0, 5, {"DSC": 0.0, "ASD": nan}),
        ClassScore("z", "b", 9, 9, {"DSC": 1.0, "ASD": 0.0}),
    ]
    return Evaluation(rows, Classes({"a": (1,), "b": (2,)}), "a test", "standard", ScoringOptions())


def test_means_deviations_and_counts(evaluation):
    first, second, overall = summarize(evaluation)
    assert first.scores["DSC"].mean == pytest.approx(1.4 / 3)
    assert first.scores["DSC"].std == pytest.approx(
        math.sqrt(((0.8 - 1.4 / 3) ** 2 + (0.6 - 1.4 / 3) ** 2 + (1.4 / 3) ** 2) / 2)
    )
    assert (first.scores["ASD"].mean, first.scores["ASD"].count) == (2.0, 2)
    assert (first.missed, first.false_alarms, first.absent, first.cases) == (0, 1, 0, 3)
    assert (second.missed, second.false_alarms, second.absent) == (1, 0, 1)
    assert second.scores["ASD"].mean == 0.0
    assert math.isnan(second.scores["ASD"].std)
    assert overall.label == OVERALL


def test_overall_is_the_mean_over_cases_of_the_mean_over_classes(evaluation):
    overall = summarize(evaluation)[-1]
    assert overall.scores["DSC"].mean == pytest.approx((0.4 + 0.6 + 0.5) / 3)
    assert overall.scores["DSC"].std == pytest.approx(0.1)
    assert (overall.cases, overall.missed, overall.false_alarms, overall.absent) == (3, 1, 1, 1)


def test_json_holds_everything_and_no_nan(evaluation):
    content = json.loads(to_json(evaluation), parse_constant=pytest.fail)
    assert content["cases"][1] == {
        "case": "x",
        "label": "b",
        "reference_pixels": 10,
        "predicted_pixels": 0,
        "scores": {"DSC": 0.0, "ASD": None},
    }
    assert content["classes"] == {"a": [1], "b": [2]}
    assert content["options"] == {"tolerance": 2.0, "empty": "nan"}
    assert [summary["label"] for summary in content["summary"]] == ["a", "b", OVERALL]


def test_csv_has_one_line_per_case_and_class(evaluation, tmp_path):
    write_csv(evaluation, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    assert lines[1] == {
        "case": "x",
        "class": "b",
        "reference_pixels": "10",
        "predicted_pixels": "0",
        "DSC": "0.0",
        "ASD": "",
    }
