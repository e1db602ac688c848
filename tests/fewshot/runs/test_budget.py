"""Budgets and how trainers' names carry them."""

import pytest

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import Budget


def test_nnunets_own_budget_needs_no_name():
    assert Budget() == Budget(1000, 250)
    assert Budget().suffix == ""


def test_other_budgets_are_in_the_name():
    assert Budget(4, 40).suffix == "_4epochs_40iters"
    assert Budget(1000, 40).suffix == "_1000epochs_40iters"


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 5)])
def test_nothing_is_no_budget(numbers):
    with pytest.raises(InputError, match="expected at least 1"):
        Budget(*numbers)
