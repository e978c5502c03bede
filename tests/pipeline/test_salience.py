"""The signals that sentences are weighed by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.retrieval.terms import terms_of
from pipeline.salience import Terms, Traits, length_prior, letters_in, signals, words_in

TERMS = terms_of("en")


def looked_at(texts: list[str], terms: Terms = TERMS) -> list[Traits]:
    return [Traits.of(text, terms) for text in texts]


def test_a_sentence_of_ordinary_length_is_preferred() -> None:
    good = "This sentence has about as many words as one in a summary should have."

    assert length_prior(good) == 1.0
    for poor in ("Yes.", "12", "Chapter 4", "and " * 400, "| 12 | 13.5 | 14 | 15 | 16 | 17 | 18 |", "今" * 2):
        assert 0 < length_prior(poor) < 0.75


def test_text_without_spaces_counts_by_its_characters() -> None:
    assert length_prior("今" * 80) == 1.0
    assert words_in("今" * 80) > 10


def test_centrality_is_that_of_lexrank_on_the_whole_graph_when_the_sample_is_the_whole_text() -> None:
    texts = ["red blue green", "red blue white", "green white", "grey pink", "grey pink brown brown", "brown"]
    frequency: dict[str, int] = {}
    for one in texts:
        for word in set(one.split()):
            frequency[word] = frequency.get(word, 0) + 1
    found = signals(looked_at(texts, str.split), range(6), range(6), 6, frequency, {})

    idf = {word: np.log(1 + 6 / times) for word, times in frequency.items()}
    rows = np.array(
        [
            [idf[word] * (one.split().count(word) and 1 + np.log(one.split().count(word))) for word in idf]
            for one in texts
        ]
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    graph = rows @ rows.T - np.eye(6)
    graph[graph < 0.1] = 0
    rank = np.full(6, 1 / 6)
    for _ in range(200):
        rank = 0.15 / 6 + 0.85 * graph @ (rank / graph.sum(axis=0))
    centre = rows @ np.array([idf[word] * times for word, times in frequency.items()])

    assert found.central == pytest.approx((rank / rank.max() + centre / centre.max()) / 2, abs=1e-3)


def test_names_are_words_that_are_capitalised_inside_sentences_more_than_once_or_twice() -> None:
    texts = ["We saw Ahab and Starbuck there.", "Then nobody spoke.", "There is Ahab."]
    found = signals(looked_at(texts), range(3), range(3), 3, {}, {"Ahab": 5, "Starbuck": 1})

    assert found.names.tolist() == pytest.approx([1 / 3, 0, 1 / 3])


def test_the_ends_of_a_text_count_more_than_its_middle() -> None:
    found = signals(looked_at(["a b c"] * 9), range(9), range(9), 9, {}, {})

    assert found.place.argmin() == 4
    assert found.place[0] == found.place[8] == pytest.approx(1.0)


@given(text=st.text(max_size=60))
def test_letters_are_those_that_python_calls_so(text: str) -> None:
    assert letters_in(text) == sum(character.isalpha() for character in text)
