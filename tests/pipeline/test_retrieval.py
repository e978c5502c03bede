"""Terms, BM25 and fusion, against their definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fields.ranking import Passage, Quote, Ranking, Wording
from pipeline.retrieval.bm25 import K1, B, Index
from pipeline.retrieval.fusion import best, best_apart, reciprocal_ranks, weighted_mean
from pipeline.retrieval.passages import PASSAGE_CHARS, runs
from pipeline.retrieval.terms import terms_of
from pipeline.segments import Sentence

WORDS = st.lists(st.sampled_from("abcdefg"), max_size=12)


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "The Assignments were ASSIGNED", ["assign", "assign"]),
        ("de", "die Häuser und das Haus", ["die", "haus", "und", "das", "haus"]),
        ("zh", "今天天气", ["今天", "天天", "天气"]),
        ("xx", "Ünïcode 42", ["ünïcode", "42"]),
    ],
)
def test_terms_are_stems_and_pairs_of_characters_where_words_are_not_spaced(
    language: str, text: str, terms: list[str]
) -> None:
    assert terms_of(language)(text) == terms


@given(st.lists(WORDS, min_size=1, max_size=12), WORDS)
@settings(deadline=None)
def test_scores_are_those_of_the_formula(texts: list[list[str]], query: list[str]) -> None:
    index = Index()
    for text in texts:
        index.add(text)
    mean = max(sum(map(len, texts)) / len(texts), 1e-9)
    expected = []
    for text in texts:
        score = 0.0
        for word in set(query):
            having = sum(word in other for other in texts)
            count = Counter(text)[word]
            rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            score += rarity * (K1 + 1) * count / (count + K1 * (1 - B + B * len(text) / mean)) if count else 0.0
        expected.append(score)

    assert index.scores(query) == pytest.approx(expected)


@given(st.lists(WORDS, min_size=1, max_size=12), st.sets(st.sampled_from("abcdefg"), min_size=1))
@settings(deadline=None, max_examples=40)
def test_passages_of_a_stream_score_as_those_of_a_collection(texts: list[list[str]], query: set[str]) -> None:
    words, index, ranking = tuple(sorted(query)), Index(), Ranking()
    wording, nowhere = Wording(words, (1.0,) * len(words)), Quote(0, 0, 0, None, "", 0.0)
    passages = [Passage(0, len(text), tuple(text.count(word) for word in words), 0.0, nowhere) for text in texts]
    for text, passage in zip(texts, passages, strict=True):
        index.add(text)
        ranking = ranking.seen(passage, wording)

    assert ranking.word_scores(passages, wording) == pytest.approx(index.scores(words))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0.1, 9), st.floats(-3, 3))
def test_fusion_does_not_depend_on_the_scale_of_a_ranking(scores: list[float], factor: float, shift: float) -> None:
    one = np.round(np.array(scores), 3)
    other = np.arange(len(one), dtype=np.float64)

    fused = weighted_mean([one, other], [1, 1])
    assert fused == pytest.approx(weighted_mean([factor * one + shift, other], [1, 1]), abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 40))
def test_passages_apart_are_different_and_begin_with_the_best(scores: list[float], count: int) -> None:
    found = best_apart(np.array(scores), count)

    assert len(found) == len(set(found)) == min(count, len(scores))
    assert sorted(best_apart(np.array(scores), len(scores))) == list(range(len(scores)))
    if found:
        assert scores[found[0]] == pytest.approx(max(scores))


def test_a_neighbour_of_the_best_passage_stands_back_behind_one_elsewhere() -> None:
    scores = np.array([0.0, 9.0, 8.5, 0.0, 0.0, 0.0, 0.0, 8.0, 0.0])

    assert best(scores, 2) == [1, 2]
    assert best_apart(scores, 3) == [1, 7, 2]


def test_equal_scores_say_nothing_in_a_fusion_by_ranks() -> None:
    nothing = np.zeros(4)

    assert best(reciprocal_ranks([np.array([1.0, 3.0, 2.0, 0.0]), nothing]), 4) == [1, 2, 0, 3]


@given(st.lists(st.integers(1, 900), max_size=30))
def test_passages_hold_every_sentence_once_and_end_as_soon_as_they_are_long_enough(lengths: list[int]) -> None:
    sentences, at = [], 0
    for number, length in enumerate(lengths):
        sentences.append(Sentence(number, "", 0, 0, at, at + length, 0, 0, None, None, True))
        at += length + 1
    found = list(runs(sentences))

    assert [place for run in found for place in range(run.first, run.last)] == list(range(len(lengths)))
    for run in found[:-1]:
        start = sentences[run.first].char_start
        assert sentences[run.last - 1].char_end - start >= PASSAGE_CHARS
        assert run.last - run.first == 1 or sentences[run.last - 2].char_end - start < PASSAGE_CHARS
