"""The peers of summaries, and the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from pipeline.metrics.peers import Text, in_order_of, peers
from pipeline.metrics.rouge import Rouge
from pipeline.metrics.summarizing import Item, compare, sentences_of

_WORDS = st.lists(
    st.sampled_from(["running", "runs", "ran", "the", "cats", "cat's", "3.5", "über", "happily", "ponies"]), max_size=12
)
SENTENCES = ("the red cat sat on a mat", "one dog ran after the red cat", "nothing else was seen that day at all")


@settings(deadline=None, max_examples=30)
@given(summary=_WORDS.map(" ".join), reference=_WORDS.map(" ".join))
def test_rouge_is_that_of_the_package(summary: str, reference: str) -> None:
    expected = rouge_scorer.RougeScorer(["rouge1", "rouge2"], use_stemmer=True).score(reference, summary)

    assert Rouge().best(summary, ["zzz", reference]) == pytest.approx(
        (100 * expected["rouge1"].fmeasure, 100 * expected["rouge2"].fmeasure)
    )


def test_bm25_is_its_formula() -> None:
    text = Text.of(SENTENCES, str.split)
    mean = sum(len(one.split()) for one in SENTENCES) / 3
    expected = [0.0, 0.0, 0.0]
    for place, sentence in enumerate(SENTENCES):
        for term, having in (("red", 2), ("dog", 1)):
            times = sentence.split().count(term)
            norm = 1.2 * (0.25 + 0.75 * len(sentence.split()) / mean)
            expected[place] += math.log(1 + (3 - having + 0.5) / (having + 0.5)) * times * 2.2 / (times + norm)

    assert text.bm25(["red", "dog", "red", "absent"]) == pytest.approx(expected)


@pytest.mark.parametrize("words", [5, 8, 15, 40])
def test_every_peer_keeps_within_the_words(words: int) -> None:
    text = Text.of(SENTENCES * 4, str.split)
    names = []
    for name, scores, alike in peers(text, ["red"]):
        chosen = in_order_of(scores, text, words, alike)
        names.append(name)
        assert sum(len(text.sentences[place].split()) for place in chosen) <= words
        assert chosen == sorted(chosen)

    assert len(set(names)) == len(names) == 6


def test_the_lead_is_the_beginning() -> None:
    text = Text.of(SENTENCES, str.split)
    [scores] = [scores for name, scores, _ in peers(text, []) if name == "lead"]

    assert in_order_of(scores, text, 14, 2.0) == [0, 1]


def test_the_difference_from_the_best_peer_is_none_for_itself() -> None:
    table = compare("x", "y", [Item(SENTENCES * 3, "red", 14, (SENTENCES[1],)) for _ in range(3)])
    zeros = [row.system for row in table.rows if row.metrics["rouge1 less best peer"].high == 0]

    assert table.rows[0].system == "unspool"
    assert any(name in table.notes[0] for name in zeros)
    assert np.isfinite([value.value for row in table.rows for value in row.metrics.values()]).all()


def test_sentences_end_where_lines_end() -> None:
    assert sentences_of("One is here. Two is there.\n\nThree\nFour goes on.") == (
        "One is here.",
        "Two is there.",
        "Three",
        "Four goes on.",
    )
