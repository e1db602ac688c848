"""The report's numbers against direct computation on the study's arrays."""

import numpy as np
import pytest
from helpers.synthetic_results import make_study
from scipy import stats

from nnsam.fewshot.report.estimates import Place, best_methods, overall_numbers, structure_numbers
from nnsam.fewshot.report.results import read_results
from nnsam.fewshot.report.statistics import holm


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    absent = np.zeros((12, 5), bool)
    absent[4, 1] = True
    make_study(folder, skip={("unet", 4, 1), ("nnUNetTrainer", 4, 2)}, absent=absent, predictions=False)
    return read_results(folder)


def test_means_and_spreads_are_those_of_the_arrays(results):
    numbers = overall_numbers(results, ("dice", "asd"), "nnUNetTrainer")
    table = np.nanmean(results.of("nnSAMTrainer", 8, "asd"), axis=-1)
    cell = numbers.cells[Place("nnSAMTrainer", 8, "asd", None)]
    per_case = np.nanmean(table, axis=0)
    assert cell.estimate.mean == pytest.approx(np.nanmean(per_case))
    assert cell.estimate.std_cases == pytest.approx(np.nanstd(per_case, ddof=1))
    assert cell.estimate.std_trainings == pytest.approx(np.std(np.nanmean(table, axis=1), ddof=1))
    assert cell.trainings == pytest.approx(dict(enumerate(np.nanmean(table, axis=1))))
    assert cell.estimate.low < cell.estimate.mean < cell.estimate.high
    assert not cell.is_partial


def test_missing_trainings_are_left_out_and_counted(results):
    numbers = overall_numbers(results, ("dice",), "nnUNetTrainer")
    cell = numbers.cells[Place("unet", 4, "dice", None)]
    assert cell.is_partial
    assert list(cell.trainings) == [0, 2]
    assert cell.estimate.trainings == 2
    assert cell.estimate.missing == 0


def test_tests_use_the_trainings_cases_and_structures_that_both_have(results):
    numbers = overall_numbers(results, ("asd",), "nnUNetTrainer")
    test = numbers.tests[Place("unet", 4, "asd", None)]
    first, second = (results.of(method, 4, "asd")[:1] for method in ("unet", "nnUNetTrainer"))  # seed 0 alone
    both = np.isfinite(first) & np.isfinite(second)
    assert (both.sum() < np.isfinite(first).sum()) or (both.sum() < np.isfinite(second).sum())
    difference = np.nanmean(np.where(both, first - second, np.nan), axis=-1)[0]
    patients = np.array(results.patients)
    per_patient = [np.nanmean(difference[patients == name]) for name in sorted(set(patients))]
    assert test.comparison.trainings == 1
    assert test.comparison.difference == pytest.approx(np.nanmean(difference))
    assert test.comparison.p_patients == pytest.approx(stats.wilcoxon(per_patient).pvalue)
    assert test.comparison.p_trainings == 1


def test_holms_correction_spans_the_table(results):
    numbers = overall_numbers(results, ("dice", "asd"), "nnUNetTrainer")
    tests = list(numbers.tests.values())
    assert len(tests) == 2 * 2 * 2  # methods, metrics, sizes
    for name in ("p_patients", "p_trainings"):
        expected = holm([getattr(test.comparison, name) for test in tests])
        np.testing.assert_allclose([getattr(test, name) for test in tests], expected)
    by_structure = structure_numbers(results, "dice", "nnUNetTrainer")
    assert len(by_structure.tests) == 2 * 2 * 5
    assert len(by_structure.cells) == 3 * 2 * 5


def test_without_a_reference_nothing_is_tested(results):
    assert overall_numbers(results, ("dice",), None).tests == {}


def test_the_best_method_depends_on_the_metric(results):
    numbers = overall_numbers(results, ("dice", "asd"), None)
    best = best_methods(numbers, results.methods)
    for metric, pick in (("dice", max), ("asd", min)):
        for size in results.sizes:
            means = {m: numbers.cells[Place(m, size, metric, None)].estimate.mean for m in results.methods}
            assert {place.method for place in best if (place.metric, place.size) == (metric, size)} == {
                pick(means, key=means.get)
            }
    assert best_methods(numbers, results.methods[:1]) == set()


def test_a_structure_that_nobody_scores_has_no_numbers(tmp_path):
    absent = np.zeros((12, 5), bool)
    absent[:, 2] = True
    make_study(tmp_path, absent=absent, predictions=False)
    numbers = structure_numbers(read_results(tmp_path), "asd", "nnUNetTrainer")
    assert numbers.cells[Place("unet", 4, "asd", "LA")].estimate is None
    assert Place("unet", 4, "asd", "LA") not in numbers.tests
    assert numbers.cells[Place("unet", 4, "asd", "LV")].estimate is not None
