"""Draws are disjoint, nested, repeatable, and patients stay together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.fewshot.study.splits import Split, draw_split, draw_subsets

# The layout of the paper's data: 20 patients of 16 slices.
PATIENTS = {f"p{patient:02d}_z{z:02d}": f"p{patient:02d}" for patient in range(20) for z in range(16)}


@pytest.mark.parametrize("rule", ["patient", "slice"])
def test_the_papers_numbers_are_met_exactly(rule):
    split = draw_split(PATIENTS, rule, validation=80, test=112)
    assert (len(split.validation), len(split.test)) == (80, 112)
    assert len({*split.pool, *split.validation, *split.test}) == len(split.pool) + 80 + 112


def test_the_patient_rule_parts_no_patient_and_leaves_surplus_cases_out():
    split = draw_split(PATIENTS, "patient", validation=10, test=20)
    split.check(PATIENTS)
    assert len(split.pool) == 320 - 16 - 32  # one patient for validation, two for the test; the rest of them is unused


def test_the_slice_rule_parts_patients_and_the_check_says_so():
    split = draw_split(PATIENTS, "slice", validation=80, test=112)
    with pytest.raises(InputError, match=r"patient p\d\d has cases in the test cases and in the validation cases"):
        split.check(PATIENTS)


def test_a_patient_in_pool_and_test_is_found():
    with pytest.raises(InputError, match=r"patient p has cases in the test cases and in the training cases \(a\)"):
        Split(("a",), (), ("b",)).check({"a": "p", "b": "p"})


def test_the_seed_decides():
    splits = [draw_split(PATIENTS, "patient", 80, 112, seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@given(
    st.lists(st.integers(1, 9), min_size=4, max_size=12),
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_no_patient_is_ever_in_two_lists(cases_per_patient, validation, test, seed):
    patients = {f"{p}-{c}": str(p) for p, count in enumerate(cases_per_patient) for c in range(count)}
    try:
        split = draw_split(patients, "patient", validation, test, seed)
    except InputError:
        return
    split.check(patients)
    assert split.pool
    assert len(split.validation) == validation
    assert len(split.test) == test


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fold", 1, 1), "the split rule 'fold' is unknown; expected patient, slice, given"),
        (("slice", 160, 160), "there are 320 cases in all, so that none is left"),
        (("patient", 100, 212), "the 20 patients are all needed"),
        (("patient", 3, 0), "found 3 validation and 0 test cases"),
    ],
)
def test_impossible_draws_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        draw_split(PATIENTS, *arguments)


def test_subsets_are_nested_within_a_seed_and_differ_between_seeds():
    pool = sorted(PATIENTS)[:40]
    subsets = draw_subsets(pool, [4, 8, 20], [0, 1])
    for seed in (0, 1):
        assert [len(subsets[size, seed]) for size in (4, 8, 20)] == [4, 8, 20]
        assert set(subsets[4, seed]) < set(subsets[8, seed]) < set(subsets[20, seed]) <= set(pool)
    assert subsets[8, 0] != subsets[8, 1]
    assert subsets == draw_subsets(pool[::-1], [4, 8, 20], [0, 1])


def test_every_case_of_the_pool_has_the_same_chance():
    draws = Counter(case for seed in range(2000) for case in draw_subsets("abcdefgh", [2], [seed])[2, seed])
    assert all(abs(draws[case] - 500) < 100 for case in "abcdefgh")  # 5 standard deviations


@pytest.mark.parametrize(
    ("sizes", "seeds", "message"),
    [
        ([4, 9], [0], "9 training cases were asked for, and there are 8 left"),
        ([8, 4], [0], "the sizes are 8, 4; expected ascending"),
        ([4], [0, 0], "the seeds 0, 0 repeat"),
        ([], [0], "at least one size and one seed"),
    ],
)
def test_impossible_subsets_are_refused(sizes, seeds, message):
    with pytest.raises(InputError, match=message):
        draw_subsets("abcdefgh", sizes, seeds)
