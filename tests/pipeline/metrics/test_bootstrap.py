"""Intervals: where they lie, how wide they are, and that they do not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.bootstrap import estimate, estimate_of, paired_difference
from pipeline.metrics.correlation import spearman

_VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@settings(deadline=None, max_examples=25)
@given(_VALUES)
def test_an_interval_lies_within_the_values_and_is_the_same_each_time(values: list[float]) -> None:
    found = estimate(values)

    assert min(values) - 1e-6 <= found.low <= found.high <= max(values) + 1e-6
    assert found == estimate(values)


def test_an_interval_is_as_wide_as_the_normal_distribution_says() -> None:
    values = np.random.RandomState(1).normal(5.0, 2.0, 400)

    found = estimate(values)

    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_the_difference_of_values_on_the_same_items_is_surer_than_either() -> None:
    theirs = np.random.RandomState(2).normal(0.0, 5.0, 100)

    found = paired_difference(theirs + 1.0, theirs)

    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_statistic_over_all_items_is_given_them_in_order() -> None:
    first, second = np.arange(20.0), np.exp(np.arange(20.0))

    found = estimate_of(lambda items: spearman(first[items], second[items]), 20)

    assert (found.value, found.low) == pytest.approx((1.0, 1.0))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(12)))
def test_ranks_do_not_ask_how_large_values_are(order: list[int]) -> None:
    values = np.array(order, np.float64)
    distances = np.square(values - np.arange(12)).sum()

    assert spearman(values**3, np.arange(12)) == pytest.approx(1 - 6 * distances / (12 * (144 - 1)))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert spearman([1, 1, 2], [0.5, 0.5, 9.0]) == pytest.approx(1.0)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
