"""Extractive summaries: the text's own sentences, cited, of every section or stretch and of the whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tables
from pipeline.documents import DocumentRef
from pipeline.tasks import summarize
from pipeline.tasks.summarize import Summarize
from tests.pipeline.memory_document import MemoryDocument, cut
from tests.pipeline.moments import Rehearsal, rows_of, table_of
from tests.pipeline.readings import NOUNS, VERBS, prose


def sectioned(*sentences: int) -> MemoryDocument:
    """One section for each number, with so many sentences; the blocks know the sections, as a format gives them."""
    texts = [f"# Part {number}\n\n" + prose(count, number).replace("#", "") for number, count in enumerate(sentences)]
    return MemoryDocument(tuple(texts), tuple(f"Part {number}" for number in range(len(texts))))


def task(**options: Any) -> Summarize:
    return Summarize(**({"name": "gist", "seed": 0} | options))


def summaries(document: MemoryDocument, made: Summarize, stops: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return rows_of(Rehearsal(document).play(made, stops), "summaries")


def level(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["level"] == name]


def assert_true_to(document: MemoryDocument, rows: list[dict[str, Any]], most: int) -> None:
    """Verbatim, cited exactly, in text order, inside the span that is summarised, no more than asked for."""
    sentences = {
        sentence.index: sentence for segment in Rehearsal(document).segments() for sentence in segment.sentences
    }
    for row in rows:
        spans = [(cited["char_start"], cited["char_end"]) for cited in row["citations"]]
        assert 1 <= len(spans) <= most
        assert row["text"] == "\n".join(document.text[start:end] for start, end in spans)
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
        assert row["char_start"] <= spans[0][0] and spans[-1][1] <= row["char_end"]
        for cited in row["citations"]:
            sentence = sentences[int(cited["sentence_id"].removeprefix("d0#s"))]
            assert (sentence.char_start, sentence.char_end) == (cited["char_start"], cited["char_end"])


WORDS = st.sampled_from([*NOUNS, *VERBS, "Dr.", "3.50", "…", "ü"])
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=15)


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(SENTENCES, min_size=1, max_size=4),
    lengths=st.lists(st.integers(5, 60), min_size=1, max_size=3),
    most=st.integers(1, 5),
    every=st.sampled_from([None, 1, 10, 50, 10_000]),
)
def test_any_text_is_summarised_by_its_own_sentences(
    parts: list[list[str]], lengths: list[int], most: int, every: int | None
) -> None:
    texts = [". ".join(sentences) + ".\n\n" for sentences in parts]
    pieces = [(piece, f"S{n}") for n, text in enumerate(texts) for piece in cut(text, lengths)]
    document = MemoryDocument(tuple(piece for piece, _ in pieces), tuple(section for _, section in pieces))
    rows = summaries(document, task(max_sentences=most, every_tokens=every))

    assert_true_to(document, rows, most)
    assert [row["index"] for row in level(rows, "section")] == list(range(len(rows) - 1))
    assert [row["level"] for row in rows] == ["section"] * (len(rows) - 1) + ["document"]


@settings(deadline=None, max_examples=15)
@given(stops=st.lists(st.integers(0, 60), max_size=6).map(tuple), every=st.sampled_from([None, 40]))
def test_a_memory_stored_in_mid_stream_gives_the_same_summaries(stops: tuple[int, ...], every: int | None) -> None:
    document = sectioned(12, 3, 20)

    assert summaries(document, task(every_tokens=every), stops) == summaries(document, task(every_tokens=every))


@pytest.mark.parametrize("sizes", [(40,), (3, 30, 8)])
@pytest.mark.parametrize("stops", [(), (4,)])
def test_a_section_has_the_same_summary_whether_the_document_has_one_or_not(
    sizes: tuple[int, ...], stops: tuple[int, ...]
) -> None:
    document = sectioned(*sizes)

    assert level(summaries(document, task(), stops), "section") == summaries(document, task(at_end=False))


def test_every_section_has_a_summary_of_its_own_in_the_order_of_the_text() -> None:
    document = sectioned(12, 1, 30)
    rows = summaries(document, task(max_sentences=3))
    sections = level(rows, "section")

    assert [row["id"] for row in rows] == [
        "d0#gist#section00000",
        "d0#gist#section00001",
        "d0#gist#section00002",
        "d0#gist#document00000",
    ]
    assert_true_to(document, rows, 3)
    starts = [document.text.index(f"# Part {number}") for number in range(3)]
    assert [row["char_start"] for row in sections] == starts
    assert all(row["char_end"] <= start for row, start in zip(sections, starts[1:], strict=False))


def test_a_section_that_comes_again_later_is_another_one() -> None:
    texts = tuple(f"Number {number} says this and that to us.\n\n" for number in range(3))
    rows = summaries(MemoryDocument(texts, ("A", "B", "A")), task(at_end=False))

    assert [(row["index"], row["text"]) for row in rows] == [(n, texts[n].strip()) for n in range(3)]


def test_a_short_section_is_not_repeated_whole() -> None:
    rows = level(summaries(sectioned(6, 9, 60), task(max_sentences=5)), "section")
    counts = [6 + 1, 9 + 1, 60 + 6]  # their headings are sentences too

    assert [len(row["citations"]) for row in rows] == [min(5, -(-count // 3)) for count in counts]


def test_the_whole_document_is_summarised_from_its_first_character_to_its_last() -> None:
    document = sectioned(12, 12)
    (row,) = level(summaries(document, task()), "document")

    assert (row["char_start"], row["char_end"]) == (0, len(document.text))
    assert len(row["citations"]) == 5


@pytest.mark.parametrize("tokens", [20, 64, 100])
def test_every_so_many_tokens_there_is_a_summary(tokens: int) -> None:
    document = MemoryDocument((prose(60),))
    sentences = [sentence for segment in Rehearsal(document).segments() for sentence in segment.sentences]
    rows = level(summaries(document, task(every_tokens=tokens)), "section")
    stretches = sorted({(sentence.token_end - 1) // tokens for sentence in sentences})

    assert len(rows) == len(stretches)
    for row, stretch in zip(rows, stretches, strict=True):
        inside = [s for s in sentences if (s.token_end - 1) // tokens == stretch]
        assert (row["char_start"], row["char_end"]) == (inside[0].char_start, inside[-1].char_end)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({}, {"section", "document"}),
        ({"at_end": False}, {"section"}),
        ({"every_section": False}, {"document"}),
        ({"every_section": False, "every_tokens": 50}, {"section", "document"}),
    ],
)
def test_only_the_levels_asked_for_are_there(options: dict[str, Any], levels: set[str]) -> None:
    assert {row["level"] for row in summaries(sectioned(5, 5), task(**options))} == levels


@pytest.mark.parametrize(
    ("every", "expected"), [("section", (True, None)), ("document", (False, None)), ({"tokens": 500}, (False, 500))]
)
def test_the_options_of_a_job_file_are_understood(every: Any, expected: tuple[bool, int | None]) -> None:
    made = summarize.make({"name": "g", "seed": 3, "max_sentences": 2, "every": every, "at_end": True})

    assert (made.every_section, made.every_tokens) == expected
    assert (made.name, made.seed, made.max_sentences, made.at_end) == ("g", 3, 2, True)


def test_the_rows_say_how_they_came_about() -> None:
    table = table_of(Rehearsal(sectioned(4)).play(task(seed=7)), "summaries")

    assert table.schema == tables.SUMMARIES
    assert set(table.column("mode").to_pylist()) == {"extractive"}
    assert set(table.column("task").to_pylist()) == {"gist"}
    assert set(table.column("seed").to_pylist()) == {7}
    assert set(table.column("tokens_generated").to_pylist()) == {0}


def test_the_name_of_a_long_document_does_not_change_what_is_summarised() -> None:
    texts = (prose(1_500),)
    named = [MemoryDocument(texts, ref=DocumentRef(name, name, name, 0, 0, "text")) for name in ("one", "two")]
    one, two = ([row["citations"] for row in summaries(document, task(every_tokens=None))] for document in named)

    assert [[cited["char_start"] for cited in row] for row in one] == [
        [cited["char_start"] for cited in row] for row in two
    ]


def test_the_size_of_the_window_does_not_change_what_is_summarised() -> None:
    document = sectioned(12, 3, 20)
    spans = [
        [
            (row["level"], row["char_start"], row["char_end"])
            for row in rows_of(Rehearsal(document, window).play(task()), "summaries")
        ]
        for window in (16, 64, 1024)
    ]

    assert spans[0] == spans[1] == spans[2]
