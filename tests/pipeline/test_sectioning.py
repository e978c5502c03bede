"""Sections by rule: each names places of the text and changes nothing else, whatever the reads and resumptions."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sectioning import HEADINGS, HELD_SENTENCES, PAGES, TOPICS
from pipeline.segments import Segment, Segmenter, Sentence, SplitOptions
from pipeline.values import from_json, to_json
from tests.pipeline.memory_document import MemoryDocument, StrideTokenizer, cut

WORDS = {
    "sea": "harbour ship captain anchor sail tide crew mast deck storm port rope keel gull cargo",
    "proof": "lemma prime integer theorem induction divisor residue modulus field root ring ideal group",
    "bread": "flour oven dough yeast crust loaf baker salt butter knead sugar pan rye wheat rise",
}
OPTIONS = SplitOptions(window=16, max_chars=200, sections=TOPICS)
STRIDE = 40


def talk(topic: str, sentences: int, draw: random.Random) -> str:
    """Sentences of the words of one topic, some of them shouted so shortly that no token ends in them."""
    said = []
    for _ in range(sentences):
        words = draw.choices(WORDS[topic].split(), k=draw.randint(5, 9))
        said.append(" ".join(words).capitalize() + draw.choice([".", "!", ".\n\n", ". No."]))
    return " ".join(said) + "\n\n"


@st.composite
def texts(draw: st.DrawFn) -> str:
    lengths = draw(st.lists(st.integers(10, 120), min_size=2, max_size=5))
    source = random.Random(draw(st.integers(0, 1000)))
    return "".join(talk(source.choice(list(WORDS)), length, source) for length in lengths)


def segments_of(document: MemoryDocument, options: SplitOptions = OPTIONS, stride: int = STRIDE) -> list[Segment]:
    return list(Segmenter(document, StrideTokenizer(stride), options))


def sentences_of(document: MemoryDocument, options: SplitOptions = OPTIONS) -> list[Sentence]:
    return [sentence for segment in segments_of(document, options, 1) for sentence in segment.sentences]


def plain(segment: Segment) -> Segment:
    """The segment without what a rule for sections may say."""
    return replace(
        segment,
        settled=False,
        opens=(),
        sentences=tuple(replace(one, section=None, is_final=False) for one in segment.sentences),
    )


@settings(deadline=None, max_examples=30)
@given(text=texts(), lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=4), stop=st.integers(0, 60))
def test_topics_do_not_depend_on_how_the_text_arrives_or_where_the_reading_is_taken_up(
    text: str, lengths: list[int], stop: int
) -> None:
    whole = segments_of(MemoryDocument((text,)))
    document = MemoryDocument(cut(text, lengths))
    first = Segmenter(document, StrideTokenizer(STRIDE), OPTIONS)
    read = [segment for segment in (first.next_segment() for _ in range(stop)) if segment is not None]
    stored = from_json(to_json(first.snapshot()))
    assert isinstance(stored, dict)

    assert read + list(Segmenter(document, StrideTokenizer(STRIDE), OPTIONS, stored)) == whole


@settings(deadline=None, max_examples=30)
@given(text=texts(), stride=st.integers(1, 60), window=st.integers(1, 40))
def test_a_rule_for_sections_changes_no_sentence_and_no_token(text: str, stride: int, window: int) -> None:
    options = SplitOptions(window, 200)
    document = MemoryDocument((text,))

    found = segments_of(document, replace(options, sections=TOPICS), stride)

    without = segments_of(document, options, stride)
    assert [plain(segment) for segment in found] == [plain(segment) for segment in without]


@settings(deadline=None, max_examples=15)
@given(text=texts(), more=texts())
def test_topics_that_count_as_final_and_settled_are_those_of_every_longer_text(text: str, more: str) -> None:
    short, long = segments_of(MemoryDocument((text,))), segments_of(MemoryDocument((text + more,)))
    final = [one for segment in short for one in segment.sentences if one.is_final]
    settled = [segment for segment in short if segment.settled]

    assert final == [one for segment in long for one in segment.sentences][: len(final)]
    assert settled == long[: len(settled)]


def test_a_text_of_several_topics_is_parted_where_they_change() -> None:
    draw = random.Random(7)
    parts = [talk(topic, 60, draw) for topic in ("sea", "proof", "bread", "sea", "bread")]
    found = sentences_of(MemoryDocument(("".join(parts),)))
    starts = [sum(len(part) for part in parts[:count]) for count in range(len(parts))]

    sections = [(name, list(group)) for name, group in groupby(found, key=lambda one: one.section)]

    assert [name for name, _ in sections] == [f"topic {number}" for number in range(1, 6)]
    for (_, group), start in zip(sections, starts, strict=True):
        low, high = sorted((start, group[0].char_start))
        assert sum(low <= one.char_start < high for one in found) <= 2


def test_a_text_of_one_topic_is_one_section() -> None:
    found = sentences_of(MemoryDocument((talk("sea", 3 * HELD_SENTENCES, random.Random(2)),)))

    assert {one.section for one in found} == {"topic 1"}


def test_what_stands_under_a_heading_keeps_it_and_topics_are_counted_on_behind() -> None:
    draw = random.Random(1)
    texts = tuple(talk(topic, 20, draw) for topic in ("sea", "bread", "proof"))

    found = sentences_of(MemoryDocument(texts, (None, "Baking > Rye", None)))

    assert [name for name, _ in groupby(one.section for one in found)] == ["topic 1", "Baking > Rye", "topic 2"]


@pytest.mark.parametrize("rule", [HEADINGS, PAGES])
def test_pages_are_sections_under_no_heading_if_they_are_to_be(rule: str) -> None:
    document = MemoryDocument(("One. ", "Two. ", "Three."), (None, "Heading", None), pages=(1, 2, 3))

    found = sentences_of(document, replace(OPTIONS, sections=rule))

    wanted = ["page 1", "Heading", "page 3"] if rule == PAGES else [None, "Heading", None]
    assert [one.section for one in found] == wanted


def test_a_snapshot_with_topics_is_small_whatever_has_been_read() -> None:
    draw = random.Random(5)
    text = "".join(talk(draw.choice(list(WORDS)), 50, draw) for _ in range(20)) + "word " * 10_000
    segmenter = Segmenter(
        MemoryDocument(cut(text, [16_384])), StrideTokenizer(4), SplitOptions(512, 2000, None, TOPICS)
    )

    assert max(len(to_json(segmenter.snapshot())) for segment in segmenter if segment.index % 4 == 0) < 500_000
