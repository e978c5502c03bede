"""Topic boundaries, and the measure of them."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.segmentation import pk
from pipeline.topics import boundaries, mixed


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 8), segments=st.integers(1, 8), seed=st.integers(0, 1000))
def test_no_other_cut_has_longer_sums(count: int, segments: int, seed: int) -> None:
    segments = min(segments, count)
    rows = np.random.RandomState(seed).standard_normal((count, 3)).astype(np.float32)

    def worth(places: tuple[int, ...]) -> float:
        return sum(float(np.linalg.norm(rows[a:b].sum(axis=0))) for a, b in pairwise((0, *places, count)))

    found = tuple(boundaries(rows, segments))
    assert len(found) == segments - 1
    assert worth(found) == pytest.approx(max(worth(cut) for cut in combinations(range(1, count), segments - 1)), 1e-5)


def test_sentences_of_one_topic_are_not_parted() -> None:
    draw = np.random.RandomState(3)
    topics = np.repeat(draw.standard_normal((3, 40)), [5, 9, 7], axis=0)
    rows = (topics + 0.5 * draw.standard_normal(topics.shape)).astype(np.float32)

    assert boundaries(mixed(rows, rows, 0.5), 3) == [5, 14]


def test_more_segments_than_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sentences cannot be cut into 3"):
        boundaries(np.ones((2, 4), np.float32), 3)


def test_pk_is_nothing_for_the_right_cut_and_counts_the_wrong_pairs_of_another() -> None:
    pieces = [0] * 4 + [1] * 4

    assert pk(pieces, [4]) == 0
    assert pk(pieces, []) == pytest.approx(2 / 6)
    assert pk(pieces, [3]) == pytest.approx(2 / 6)
