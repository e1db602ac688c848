"""What is repeated of long input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsam.support.text import clipped, shown


@given(st.text() | st.integers() | st.lists(st.text()), st.integers(10, 300))
def test_nothing_is_longer_than_the_limit_and_all_of_it_is_printable(value, limit):
    for text in (clipped(value, limit), shown(value, limit)):
        assert len(text) <= limit
        assert text.isprintable()


@pytest.mark.parametrize("value", [None, True, 3, -2.5, "a", [1, [2, 3]], {"a": 1}, (1,), 2**64])
def test_short_values_are_shown_whole(value):
    assert shown(value) == repr(value)
    assert clipped(value) == str(value)


def test_hostile_values_are_shown_in_part():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    for value in ("x" * 10**7, 10**6000, [10**6000] * 1000, deep, {str(index): "y" * 1000 for index in range(1000)}):
        assert 1 < len(shown(value)) <= 200
    assert len(clipped(10**6000)) <= 200
    assert clipped("\x1b[2Ja\nb\x00") == "?[2Ja b?"
