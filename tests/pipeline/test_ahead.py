"""Items that a thread makes ahead are those that would have come, and never more than one ahead."""

from __future__ import annotations

import threading

import pytest

from pipeline.ahead import one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_items_are_the_same_in_the_same_order(count):
    assert list(one_ahead(iter(range(count)))) == list(range(count))


def test_an_item_is_made_while_the_one_before_is_used_and_no_further_one():
    made, second = list[int](), threading.Event()

    def items():
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    ahead = one_ahead(items())
    assert next(ahead) == 0
    assert second.wait(10)
    assert made == [0, 1]
    assert next(ahead) == 1
    assert list(ahead) == [2, 3, 4]


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        raise ValueError("no second one")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no second one"):
        next(ahead)


def test_who_stops_early_leaves_no_thread_behind():
    ahead = one_ahead(iter(range(5)))
    assert next(ahead) == 0
    ahead.close()
    assert not any(thread.name.startswith("one-ahead") for thread in threading.enumerate())
