"""The report's numbers against direct computation on the study's arrays."""

import numpy as np
import pytest
from helpers.synthetic_results import make_study
from scipy import stats

from nnsam.fewshot.report.numbers import OVERALL, best_means, overall_numbers, structure_numbers, to_csv
from nnsam.fewshot.report.results import read_results
from nnsam.fewshot.report.statistics import holm


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    absent = np.zeros((12, 5), bool)
    absent[4, 1] = True
    make_study(folder, skip={("unet", 4, 1), ("nnUNetTrainer", 4, 2)}, absent=absent, predictions=False)
    return read_results(folder)


def lines(numbers, kind, *place):
    """The lines of a kind, of (method, size, metric, structure) as far as given."""
    chosen = numbers["kind"] == kind
    for name, value in zip(("method", "size", "metric", "structure"), place, strict=False):
        chosen &= numbers[name] == value
    return numbers[chosen]


def line(*arguments):
    """The only such line."""
    (found,) = lines(*arguments).itertuples()
    return found


def test_means_and_spreads_are_those_of_the_arrays(results):
    numbers = overall_numbers(results, ("dice", "asd"), "nnUNetTrainer")
    table = np.nanmean(results.of("nnSAMTrainer", 8, "asd"), axis=-1)
    found = line(numbers, "estimate", "nnSAMTrainer", 8, "asd", OVERALL)
    per_case = np.nanmean(table, axis=0)
    assert found.mean == pytest.approx(np.nanmean(per_case))
    assert found.std_cases == pytest.approx(np.nanstd(per_case, ddof=1))
    assert found.std_trainings == pytest.approx(np.std(np.nanmean(table, axis=1), ddof=1))
    trainings = lines(numbers, "training", "nnSAMTrainer", 8, "asd")
    assert dict(zip(trainings["seed"], trainings["mean"], strict=True)) == pytest.approx(
        dict(enumerate(np.nanmean(table, axis=1)))
    )
    assert found.low < found.mean < found.high
    assert found.trainings == found.trainings_expected == 3


def test_missing_trainings_are_left_out_and_counted(results):
    numbers = overall_numbers(results, ("dice",), "nnUNetTrainer")
    found = line(numbers, "estimate", "unet", 4, "dice")
    assert list(lines(numbers, "training", "unet", 4, "dice")["seed"]) == [0, 2]
    assert (found.trainings, found.trainings_expected) == (2, 3)
    assert found.missing == 0


def test_tests_use_the_trainings_cases_and_structures_that_both_have(results):
    numbers = overall_numbers(results, ("asd",), "nnUNetTrainer")
    test = line(numbers, "test", "unet", 4, "asd")
    first, second = (results.of(method, 4, "asd")[:1] for method in ("unet", "nnUNetTrainer"))  # seed 0 alone
    both = np.isfinite(first) & np.isfinite(second)
    assert (both.sum() < np.isfinite(first).sum()) or (both.sum() < np.isfinite(second).sum())
    difference = np.nanmean(np.where(both, first - second, np.nan), axis=-1)[0]
    patients = np.array(results.patients)
    per_patient = [np.nanmean(difference[patients == name]) for name in sorted(set(patients))]
    assert test.trainings == 1
    assert test.difference == pytest.approx(np.nanmean(difference))
    assert test.p_patients == pytest.approx(stats.wilcoxon(per_patient).pvalue)
    assert test.p_trainings == 1


def test_holms_correction_spans_the_table(results):
    numbers = overall_numbers(results, ("dice", "asd"), "nnUNetTrainer")
    tests = lines(numbers, "test")
    assert len(tests) == 2 * 2 * 2  # methods, metrics, sizes
    for name in ("p_patients", "p_trainings"):
        np.testing.assert_allclose(tests[f"{name}_holm"], holm(tests[name]))
        assert (tests[f"{name}_holm"] >= tests[name]).all()
    by_structure = structure_numbers(results, "dice", "nnUNetTrainer")
    assert len(lines(by_structure, "test")) == 2 * 2 * 5
    assert len(lines(by_structure, "estimate")) == 3 * 2 * 5


def test_without_a_reference_nothing_is_tested(results):
    assert not len(lines(overall_numbers(results, ("dice",), None), "test"))


def test_the_best_method_depends_on_the_metric(results):
    estimates = lines(overall_numbers(results, ("dice", "asd"), None), "estimate")
    best = estimates[best_means(estimates)]
    for metric, pick in (("dice", max), ("asd", min)):
        for size in results.sizes:
            means = {m: line(estimates, "estimate", m, size, metric).mean for m in results.methods}
            assert set(best[(best["metric"] == metric) & (best["size"] == size)]["method"]) == {
                pick(means, key=means.get)
            }
    assert not best_means(lines(estimates, "estimate", results.methods[0])).any()


def test_a_structure_that_nobody_scores_has_no_numbers(tmp_path):
    absent = np.zeros((12, 5), bool)
    absent[:, 2] = True
    make_study(tmp_path, absent=absent, predictions=False)
    numbers = structure_numbers(read_results(tmp_path), "asd", "nnUNetTrainer")
    missed = line(numbers, "estimate", "unet", 4, "asd", "LA")
    assert np.isnan(missed.mean)
    assert missed.trainings == 3
    assert not len(lines(numbers, "test", "unet", 4, "asd", "LA"))
    assert np.isfinite(line(numbers, "estimate", "unet", 4, "asd", "LV").mean)
    assert len([text for text in to_csv(numbers).splitlines() if text.startswith("estimate") and ",LA," in text]) == 0
