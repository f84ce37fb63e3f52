"""Prefetching changes when items are made, never which, and passes errors on where they happened."""

import threading
from itertools import count

import pytest

from workbench.data.prefetch import Prefetch


def test_items_come_in_order_and_the_end_is_the_end():
    with Prefetch(range(5)) as items:
        assert list(items) == [0, 1, 2, 3, 4]
        with pytest.raises(StopIteration):
            next(items)


def test_an_error_is_raised_at_its_item():
    def source():
        yield 1
        raise ValueError("row 2 is broken")

    with Prefetch(source()) as items:
        assert next(items) == 1
        for _ in range(2):
            with pytest.raises(ValueError, match="row 2 is broken"):
                next(items)


def test_leaving_stops_the_thread_of_an_endless_source():
    with Prefetch(count()) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
