"""The choice of sentences: true to the text, without repetition, in bounded memory, and the same every time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.selection import CANDIDATES, SAMPLE_SIZE, Candidate, Selection, length_prior
from pipeline.values import from_json, to_json

DIMENSIONS = 12


def candidate(index: int, text: str = "") -> Candidate:
    """A sentence of a good length at its place in a text where all are 100 characters long."""
    return Candidate(index, 100 * index, 100 * index + 90, text or f"{'sentence of some words ' * 3}{index}.", 0.0)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def random_vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.RandomState(seed).standard_normal((count, DIMENSIONS)))


def select(vectors: NDArray[np.float32], batches: list[int] | None = None, salt: str = "doc") -> Selection:
    """The selection behind all of them, coming in batches of these sizes, over and over."""
    selection, first, number = Selection.empty(vectors.shape[1]), 0, 0
    while first < len(vectors):
        size = (batches or [7])[number % len(batches or [7])]
        part = vectors[first : first + size]
        selection = selection.seen([candidate(first + i) for i in range(len(part))], part, salt)
        first, number = first + size, number + 1
    return selection


def indices(chosen: tuple[Candidate, ...]) -> list[int]:
    return [one.index for one in chosen]


@settings(deadline=None, max_examples=80)
@given(
    count=st.integers(0, 300),
    limit=st.integers(1, 12),
    seed=st.integers(0, 1000),
    batches=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_what_is_chosen_is_verbatim_in_text_order_and_no_more_than_asked_for(
    count: int, limit: int, seed: int, batches: list[int]
) -> None:
    chosen = select(random_vectors(count, seed), batches).choose(limit)

    assert len(chosen) <= limit
    assert bool(chosen) == bool(count)
    assert all(earlier.index < later.index for earlier, later in pairwise(chosen))
    for one in chosen:
        original = candidate(one.index)
        assert (one.text, one.char_start, one.char_end) == (original.text, original.char_start, original.char_end)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 300),
    stop=st.integers(0, 300),
    seed=st.integers(0, 1000),
    limit=st.integers(1, 8),
)
def test_a_selection_stored_in_mid_stream_goes_on_to_the_same_choice(
    count: int, stop: int, seed: int, limit: int
) -> None:
    vectors = random_vectors(count, seed)
    stop = min(stop, count)
    selection = Selection.empty(DIMENSIONS)
    for index in range(count):
        if index == stop:
            selection = Selection.from_value(from_json(to_json(selection.to_value())))
        selection = selection.seen([candidate(index)], vectors[index : index + 1], "doc")
    straight = select(vectors, [1])

    assert to_json(selection.to_value()) == to_json(straight.to_value())
    assert selection.choose(limit) == straight.choose(limit)


def test_the_same_text_gives_the_same_choice() -> None:
    vectors = random_vectors(500)

    assert select(vectors).choose(5) == select(vectors).choose(5)
    assert to_json(select(vectors).to_value()) == to_json(select(vectors).to_value())


def test_the_sample_is_drawn_by_the_name_of_the_text_and_uniformly() -> None:
    vectors = random_vectors(4000)
    samples = [set(select(vectors, [500], salt).sample_keys) for salt in ("one", "two")]
    quarters = np.zeros(4)
    for salt in map(str, range(10)):
        selection = Selection.empty(4)
        marks = np.repeat(np.eye(4, dtype=np.float32), 1000, axis=0)
        for first in range(0, 4000, 500):
            part = [candidate(first + i) for i in range(500)]
            selection = selection.seen(part, marks[first : first + 500], salt)
        quarters += selection.sample.sum(axis=0)

    assert samples[0] != samples[1]
    assert np.all(np.abs(quarters / (10 * SAMPLE_SIZE) - 0.25) < 0.04)


def test_memory_is_bounded_for_a_hundred_thousand_sentences() -> None:
    vectors = random_vectors(100_000)
    selection, largest = Selection.empty(DIMENSIONS), 0
    for first in range(0, 100_000, 1000):
        part = [candidate(first + i) for i in range(1000)]
        selection = selection.seen(part, vectors[first : first + 1000], "doc")
        assert len(selection.sample) <= SAMPLE_SIZE
        assert len(selection.candidates) == len(selection.vectors) <= CANDIDATES
        largest = max(largest, len(to_json(selection.to_value())))

    assert selection.count == 100_000
    assert largest < 64 * 1024
    assert len(selection.choose(5)) == 5


class TestRepetition:
    def test_a_sentence_said_many_times_is_chosen_once(self) -> None:
        vectors = np.repeat(random_vectors(3), 20, axis=0)
        chosen = indices(select(vectors).choose(3))

        assert sorted(index // 20 for index in chosen) == [0, 1, 2]

    def test_the_summary_is_rather_shorter_than_repetitive(self) -> None:
        vectors = np.repeat(random_vectors(3), 20, axis=0)

        assert len(select(vectors).choose(10)) == 3

    @pytest.mark.parametrize("seed", range(5))
    def test_two_that_say_nearly_the_same_are_not_both_chosen(self, seed: int) -> None:
        topics = random_vectors(6, seed)
        noise = np.random.RandomState(seed).standard_normal((60, DIMENSIONS)) * 0.03
        vectors = unit(np.repeat(topics, 10, axis=0) + noise)
        chosen = select(vectors).choose(6)

        assert len({one.index // 10 for one in chosen}) == len(chosen)

    def test_vectors_that_all_lie_close_together_are_not_taken_for_repetitions(self) -> None:
        narrow = unit(np.ones(DIMENSIONS) + 0.02 * np.random.RandomState(0).standard_normal((60, DIMENSIONS)))

        assert (narrow @ narrow.T).min() > 0.99
        assert len(select(narrow).choose(5)) == 5

    def test_sentences_without_a_vector_are_still_chosen_once_each(self) -> None:
        assert len(indices(select(np.zeros((4, DIMENSIONS), np.float32)).choose(9))) == 4

    def test_every_topic_of_a_text_is_covered_before_one_is_covered_twice(self) -> None:
        weights = [40, 20, 10, 5]
        topics = unit(np.eye(4, DIMENSIONS) + 0.05)
        vectors = np.concatenate([np.repeat(topics[n : n + 1], count, axis=0) for n, count in enumerate(weights)])
        noise = np.random.RandomState(1).standard_normal(vectors.shape) * 0.15  # alike, but no repetitions
        ends = np.cumsum(weights)
        chosen = indices(select(unit(vectors + noise)).choose(4))

        assert [int(np.searchsorted(ends, index, side="right")) for index in chosen] == [0, 1, 2, 3]


class TestLength:
    def test_a_sentence_of_ordinary_length_is_preferred(self) -> None:
        good = "This sentence has about as many words as one in a summary should have."

        assert length_prior(good) == 1.0
        for poor in ("Yes.", "12", "Chapter 4", "and " * 400, "| 12 | 13.5 | 14 | 15 | 16 | 17 | 18 |", "今" * 2):
            assert 0 < length_prior(poor) < 0.75

    def test_text_without_spaces_counts_by_its_characters(self) -> None:
        assert length_prior("今" * 60) == 1.0

    def test_of_two_that_say_the_same_the_one_of_better_length_is_chosen(self) -> None:
        vector = random_vectors(1)
        texts = ["No.", "This one has enough words in it to be of use.", "Oh."]
        selection = Selection.empty(DIMENSIONS)
        for index, text in enumerate(texts):
            selection = selection.seen([candidate(index, text)], vector, "doc")

        assert indices(selection.choose(1)) == [1]


def test_nothing_seen_is_nothing_chosen() -> None:
    empty = Selection.empty(DIMENSIONS)

    assert empty.choose(5) == ()
    assert empty.seen([], np.zeros((0, DIMENSIONS), np.float32), "doc") == empty


def test_a_selection_is_a_value() -> None:
    before = select(random_vectors(50))
    stored = to_json(before.to_value())
    before.seen([candidate(99)], random_vectors(1), "doc")
    before.choose(3)

    assert to_json(before.to_value()) == stored
