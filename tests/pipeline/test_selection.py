"""The choice of sentences: true to the text, near the best, without repetition, in bounded memory, always the same."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import selection as selecting
from pipeline.query import Query
from pipeline.retrieval.terms import terms_of
from pipeline.salience import Traits, signals
from pipeline.selection import KEPT_AT_MOST, Budget, Candidate, Choice, Lens, Selection, Weighing
from pipeline.values import from_json, to_json

TERMS = terms_of("en")
LENS = Lens(TERMS, Query(), "doc")
WORDS = [f"{a}{b}{c}o" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmn"]
FIVE = Budget(5)


def sentence(draw: random.Random, topic: int = 0, words: int = 14) -> str:
    """Words of a topic, the first of them the commonest."""
    own = WORDS[20 * topic : 20 * topic + 20]
    return " ".join(own[min(int(draw.expovariate(0.25)), 19)] for _ in range(words)).capitalize() + "."


def text(count: int, seed: int = 0, topics: int = 5) -> list[str]:
    draw = random.Random(seed)
    return [sentence(draw, draw.randrange(topics), draw.randint(3, 30)) for _ in range(count)]


def candidate(index: int, words: str) -> Candidate:
    return Candidate(index, 1000 * index, 1000 * index + len(words), words)


def select(texts: list[str], batches: list[int] | None = None, lens: Lens = LENS) -> Selection:
    """The selection behind all of them, coming in batches of these sizes, over and over."""
    selection, first, number, sizes = Selection.empty(lens.query), 0, 0, batches or [7]
    while first < len(texts):
        size = sizes[number % len(sizes)]
        part = [candidate(first + place, words) for place, words in enumerate(texts[first : first + size])]
        selection = selection.seen(part, lens)
        first, number = first + size, number + 1
    return selection


def texts_of(chosen: tuple[Choice, ...]) -> list[str]:
    return [choice.candidate.text for choice in chosen]


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 120),
    sentences=st.integers(1, 12),
    words=st.one_of(st.none(), st.integers(1, 200)),
    seed=st.integers(0, 1000),
    query=st.sampled_from(["", WORDS[3], "What of " + WORDS[45]]),
)
def test_what_is_chosen_is_verbatim_in_text_order_with_reasons_and_within_the_budget(
    count: int, sentences: int, words: int | None, seed: int, query: str
) -> None:
    texts = text(count, seed)
    lens = Lens(TERMS, Query.of(query, TERMS), "doc")
    chosen = select(texts, lens=lens).choose(Budget(sentences, words), lens)

    assert len(chosen) <= sentences
    assert sum(len(one.split()) for one in texts_of(chosen)) <= (words or 10**6)
    assert bool(chosen) == any(len(one.split()) <= (words or 10**6) for one in texts)
    assert all(a.candidate.index < b.candidate.index for a, b in pairwise(chosen))
    for choice in chosen:
        found, original = choice.candidate, candidate(choice.candidate.index, texts[choice.candidate.index])
        assert (found.text, found.char_start, found.char_end) == (
            original.text,
            original.char_start,
            original.char_end,
        )
        assert choice.reasons


@settings(deadline=None, max_examples=10)
@given(
    count=st.sampled_from([5, 300, KEPT_AT_MOST + 200]),
    batches=st.lists(st.integers(1, 400), min_size=1, max_size=3),
    seed=st.integers(0, 100),
    query=st.sampled_from(["", WORDS[3] + " " + WORDS[25]]),
)
def test_neither_batches_nor_a_checkpoint_in_mid_stream_change_anything(
    count: int, batches: list[int], seed: int, query: str
) -> None:
    texts = text(count, seed)
    lens = Lens(TERMS, Query.of(query, TERMS), "doc")
    half = select(texts[: count // 2], batches, lens)
    stored = Selection.from_value(from_json(to_json(half)), TERMS)
    rest = [candidate(count // 2 + place, words) for place, words in enumerate(texts[count // 2 :])]

    whole = select(texts, [50], lens)
    assert to_json(stored.seen(rest, lens).to_value()) == to_json(whole.to_value())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("topics", [1, 9])
def test_the_stream_reaches_nine_tenths_of_what_greedy_choice_over_all_sentences_reaches(
    seed: int, topics: int
) -> None:
    texts = text(2000, seed, topics)
    frequency: dict[str, int] = {}
    for words in texts:
        for term in set(TERMS(words)):
            frequency[term] = frequency.get(term, 0) + 1
    candidates = tuple(candidate(index, words) for index, words in enumerate(texts))
    found = signals([Traits.of(one, TERMS) for one in texts], range(2000), range(0, 2000, 4), 2000, frequency, {})
    nothing = np.zeros(2000, np.float32)
    whole = Weighing(candidates, found, nothing, nothing)

    offline = [choice.candidate.index for choice in whole.taken(Budget(8))]
    streamed = [choice.candidate.index for choice in select(texts).choose(Budget(8), LENS)]

    assert len(streamed) == 8
    assert whole.value(streamed) >= 0.9 * whole.value(offline)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 50),
    chosen=st.lists(st.integers(0, 39), unique=True, max_size=8),
    more=st.lists(st.integers(0, 39), unique=True, max_size=8),
    new=st.integers(0, 39),
)
def test_what_sentences_are_worth_together_grows_and_grows_ever_less(
    seed: int, chosen: list[int], more: list[int], new: int
) -> None:
    weighing = select(text(40, seed))._weighing(LENS)
    large = sorted({*chosen, *more})

    def gain(places: list[int]) -> float:
        return weighing.value(sorted({*places, new})) - weighing.value(places)

    assert gain(large) >= -1e-5
    if new not in large:
        assert gain(chosen) >= gain(large) - 1e-5


def test_the_sample_is_drawn_by_the_name_of_the_text_and_uniformly() -> None:
    texts = text(1200)
    places = np.zeros(4)
    for salt in ("one", "two", "three", "four"):
        selection = select(texts, [500], Lens(TERMS, Query(), salt))
        sample = [selection.kept[place].index for place in selection._sample()]
        places += np.bincount(np.array(sample) // 300, minlength=4)

    assert np.all(np.abs(places / places.sum() - 0.25) < 0.07)
    assert {c.key for c in select(texts[:9]).kept} != {
        c.key for c in select(texts[:9], lens=Lens(TERMS, Query(), "other")).kept
    }


def test_memory_is_bounded_for_a_text_of_six_thousand_sentences_and_ever_new_words() -> None:
    draw = random.Random(5)
    lens = Lens(str.split, Query(("1", "2")), "doc")
    selection = Selection.empty(lens.query)
    for first in range(0, 6_000, 500):
        part = [candidate(first + n, " ".join(str(draw.randrange(10**6)) for _ in range(6))) for n in range(500)]
        selection = selection.seen(part, lens)
        assert len(selection.kept) == selection.marks.shape[1] <= KEPT_AT_MOST
        assert len(selection.frequency) <= 2 * selecting.TERMS_COUNTED

    assert selection.count == 6_000
    assert len(to_json(selection.to_value())) < 400 * 1024
    assert len(selection.choose(FIVE, lens)) == 5


def test_a_sentence_said_many_times_is_chosen_once() -> None:
    three = text(3, 4)

    assert sorted(texts_of(select(three * 20).choose(Budget(10), LENS))) == sorted(three)


def test_a_sentence_that_answers_is_chosen_before_one_that_is_central() -> None:
    texts = text(60, topics=1)
    texts[41] = "Nobody had told the harbour master that the lighthouse keeper was asleep at that hour."
    lens = Lens(TERMS, Query.of("Describe the lighthouse.", TERMS), "doc")
    [chosen] = select(texts, lens=lens).choose(Budget(1), lens)

    assert (chosen.candidate.index, "query" in chosen.reasons) == (41, True)
    assert 41 not in [choice.candidate.index for choice in select(texts).choose(Budget(1), LENS)]


def test_sentences_around_one_that_answers_are_chosen_before_those_far_from_it() -> None:
    texts = text(80, seed=8, topics=1)
    texts[50] = "They spoke of the lighthouse for a while before going on with the rest of it."
    lens = Lens(TERMS, Query.of("lighthouse", TERMS), "doc")
    chosen = select(texts, lens=lens).choose(Budget(4), lens)

    assert all(abs(choice.candidate.index - 50) <= 4 for choice in chosen)


def test_a_query_of_words_that_only_ask_is_none() -> None:
    assert Query.of("What is the plot of the story? Summarize the discussion.", TERMS) == Query()
    assert Query.of("Summarize what was said of lighthouses", TERMS).terms[-1:] == ("lighthous",)


def test_a_query_that_nothing_answers_is_as_if_there_were_none() -> None:
    texts = text(50)
    lens = Lens(TERMS, Query.of("zeppelin", TERMS), "doc")

    assert texts_of(select(texts, lens=lens).choose(FIVE, lens)) == texts_of(select(texts).choose(FIVE, LENS))


def test_nothing_seen_is_nothing_chosen() -> None:
    empty = Selection.empty(Query())

    assert empty.choose(FIVE, LENS) == ()
    assert to_json(empty.seen([], LENS).to_value()) == to_json(empty.to_value())


def test_a_selection_is_a_value() -> None:
    lens = Lens(TERMS, Query.of(WORDS[3], TERMS), "doc")
    before = select(text(50), lens=lens)
    stored = to_json(before.to_value())
    before.seen([candidate(99, text(1)[0])], lens)
    before.choose(Budget(3), lens)

    assert to_json(before.to_value()) == stored


def test_counts_that_an_earlier_version_has_stored_as_pairs_are_read() -> None:
    now = select(text(30, 1), [30], LENS)
    pairs = {name: [list(pair) for pair in getattr(now, name).items()] for name in ("frequency", "names")}
    assert Selection.from_value(now.to_value() | pairs, TERMS).to_value() == now.to_value()
