"""Options travel to the processes of runs as text, budgets in trainers' names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.fewshot.runs.options import DEVICES, Budget, StudyRunOptions


@given(
    st.builds(
        StudyRunOptions,
        budget=st.builds(Budget, st.integers(1, 10**6), st.integers(1, 10**6)),
        device=st.sampled_from(DEVICES),
        tta=st.booleans(),
        score_validation=st.booleans(),
        nnunet_validation=st.booleans(),
        retry_failed=st.booleans(),
        threads=st.integers(0, 512),
        cores=st.lists(st.integers(0, 512)).map(tuple),
    )
)
def test_text_and_back(options):
    assert StudyRunOptions.from_json(options.to_json()) == options


def test_unknown_device_and_threads():
    with pytest.raises(InputError, match="expected cpu, cuda, mps"):
        StudyRunOptions(device="tpu")
    with pytest.raises(InputError, match="threads is -1"):
        StudyRunOptions(threads=-1)


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
