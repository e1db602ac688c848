"""Against closed forms, scipy, and simulations with a known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnsam.errors import InputError
from nnsam.fewshot.report.statistics import compare, estimate, holm, sign_flip_p


def names(count):
    return [f"p{index}" for index in range(count)]


def test_the_estimate_of_a_small_table():
    found = estimate([[0.8, 0.6], [0.6, np.nan]], ["a", "b"])
    assert found.mean == pytest.approx((0.7 + 0.6) / 2)
    assert found.std_cases == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert found.std_trainings == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert (found.cases, found.trainings, found.missing) == (2, 2, 1)
    assert 0.6 <= found.low <= found.mean <= found.high <= 0.8


def test_one_training_of_one_case_has_no_spread():
    found = estimate([[0.5]], ["a"])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert np.isnan(found.std_cases)
    assert np.isnan(found.std_trainings)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        patient, training = generator.normal(size=(1, 30)), generator.normal(size=(15, 1)) * 0.3
        table = patient + training + generator.normal(size=(15, 30)) * 0.1
        found = estimate(table, names(30), samples=400, seed=trial)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 300 <= 0.98  # 95 % but for the known optimism of percentiles in small samples


def test_cases_of_a_patient_widen_the_interval_when_they_are_alike():
    values = np.repeat(np.random.default_rng(0).normal(size=20), 8)[None]
    alone = estimate(values, names(160))
    clustered = estimate(values, [f"p{index // 8}" for index in range(160)])
    assert clustered.high - clustered.low == pytest.approx(np.sqrt(8) * (alone.high - alone.low), rel=0.15)


def test_wilcoxon_is_scipys_on_patient_means():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.1, 1, (3, 40)), generator.normal(0, 1, (3, 40))
    patients = [f"p{index // 2}" for index in range(40)]
    expected = stats.wilcoxon((first - second).mean(axis=0).reshape(20, 2).mean(axis=1)).pvalue
    found = compare(first, second, patients)
    assert found.p_patients == pytest.approx(expected)
    assert (found.patients, found.trainings, found.missing) == (20, 3, 0)
    assert found.difference == pytest.approx((first - second).mean())


# Whole numbers: among fractions, ties are a matter of the tolerance, and scipy has another one.
@given(st.lists(st.integers(-5000, 5000), min_size=2, max_size=8))
def test_the_sign_flip_test_is_scipys(differences):
    values = np.array(differences)
    if not values.any():
        assert sign_flip_p(values) == 1
        return
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    # scipy doubles the smaller tail; for a symmetric distribution that is the same but for ties.
    assert sign_flip_p(values) == pytest.approx(min(1, expected), abs=2 ** (1 - len(values)) + 1e-9)


def test_three_trainings_cannot_be_significant():
    assert sign_flip_p([1, 1, 1]) == 2**-2
    assert sign_flip_p(np.ones(5)) == 2**-4


def test_many_differences_are_sampled():
    generator = np.random.default_rng(0)
    assert sign_flip_p(generator.normal(0, 1, 50)) > 0.01
    assert sign_flip_p(generator.normal(1, 1, 50)) < 0.001


@pytest.mark.parametrize("test", ["p_patients", "p_trainings"])
def test_no_difference_is_called_one_in_five_percent_only(test):
    generator = np.random.default_rng(0)
    found = [
        getattr(compare(*generator.normal(size=(2, 8, 20)), names(20), samples=10), test) < 0.05 for _ in range(300)
    ]
    assert 0.01 <= np.mean(found) <= 0.09


def test_equal_methods_have_no_difference():
    table = np.random.default_rng(0).normal(size=(3, 10))
    found = compare(table, table, names(10))
    assert (found.difference, found.low, found.high, found.p_patients, found.p_trainings) == (0, 0, 0, 1, 1)


def test_cells_that_one_method_lacks_are_left_out_and_counted():
    first = np.array([[0.9, np.nan, 0.7], [0.9, 0.8, 0.7]])
    found = compare(first, np.zeros((2, 3)), names(3))
    assert found.missing == 1
    assert found.difference == pytest.approx(0.8)


def test_holm_against_the_definition():
    p = [0.01, 0.02, 0.022, 0.09, np.nan]
    assert holm(p)[:4] == pytest.approx([0.04, 0.06, 0.06, 0.09])
    assert np.isnan(holm(p)[4])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_helps_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize(
    ("scores", "patients", "message"),
    [
        ([0.1, 0.2], ["a", "b"], r"scores have the shape \(2,\)"),
        ([[0.1, 0.2]], ["a"], r"scores have the shape \(1, 2\)"),
        ([[np.nan]], ["a"], "there is no score to average"),
    ],
)
def test_tables_that_cannot_be_averaged_are_refused(scores, patients, message):
    with pytest.raises(InputError, match=message):
        estimate(scores, patients)


def test_unpaired_tables_are_refused():
    with pytest.raises(InputError, match="expected the same ones for a paired test"):
        compare(np.ones((2, 3)), np.ones((3, 3)), names(3))
