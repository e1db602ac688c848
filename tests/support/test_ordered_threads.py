import threading

import pytest

from nnsam.support.concurrency import ordered_map


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_items_are_read_as_needed(threads):
    read = []

    def items():
        for index in range(20):
            read.append(index)
            yield index

    results = ordered_map(lambda index: index * index, items(), threads)
    assert next(results) == 0
    assert len(read) <= threads
    assert list(results) == [index * index for index in range(1, 20)]


def test_items_are_computed_at_once():
    together = threading.Barrier(3, timeout=30)
    assert len(list(ordered_map(lambda _: together.wait(), range(3), 3))) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_the_callers(threads):
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda index: 1 // (3 - index), range(6), threads))
