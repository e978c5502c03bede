"""Extractive summaries: sentences of the text itself, verbatim, each cited with its span and the reasons for it.

A selector runs with the reading, one for the open section and one for the document, so a summary costs no second pass
and its memory does not grow with the document. It goes by words, not by sentence vectors: see DECISIONS.md.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, cast

import pyarrow as pa

from pipeline import tables
from pipeline.query import Query
from pipeline.retrieval.terms import terms_of
from pipeline.segments import Sentence
from pipeline.selection import Budget, Candidate, Choice, Lens, Selection
from pipeline.tasks import Emit, Ending, Memory, Moment, Options, Steps
from pipeline.tasks.embed import sentence_id
from pipeline.values import Value

TYPE: Final = "summarize"
_SENTENCES_PER_CHOICE: Final = 3
_USUAL_LANGUAGE: Final = "en"


@dataclass(frozen=True)
class Stretch:
    """The open part of the document that will get a summary of its own: a section, or so many tokens."""

    key: str
    index: int
    char_start: int
    char_end: int
    selection: Selection


@dataclass(frozen=True)
class Summarize:
    """Summaries of every section (or of every `every_tokens` tokens), and of the whole document at its end.

    With a `query` they hold what answers it. A summary ends at `max_sentences` or `max_words`, whichever comes first.
    """

    name: str
    seed: int
    max_sentences: int = 5
    max_words: int | None = None
    query: str | None = None
    every_section: bool = True
    every_tokens: int | None = None
    at_end: bool = True
    wants_vectors: bool = False

    @property
    def by_words(self) -> bool:
        return not self.wants_vectors

    def visit(self, moment: Moment) -> Steps:
        sentences = moment.segment.sentences
        if not sentences:
            return moment.memory
        lens = self._lens(moment.facts.language)
        document, stretch = _remembered(moment.memory, lens.query)
        if self.at_end:
            document = document.seen(_candidates(sentences), lens)
        for key, group in groupby(sentences, key=self._stretch_key):
            if key is None:
                break
            part = list(group)
            if stretch is None or stretch.key != key:
                yield from self._close(moment.ref.doc_id, lens, stretch)
                stretch = _opened(key, stretch, part[0], lens.query)
            stretch = _extended(stretch, part, lens)
        return _memory(document, stretch)

    def finish(self, ending: Ending) -> Steps:
        if not ending.memory:
            return ending.memory
        lens = self._lens(ending.facts.language)
        document, stretch = _remembered(ending.memory, lens.query)
        yield from self._close(ending.ref.doc_id, lens, stretch)
        if self.at_end and document.count:
            chosen = document.choose(Budget(self.max_sentences, self.max_words), lens)
            if chosen:
                yield Emit("summaries", self._row(ending.ref.doc_id, "document", 0, 0, ending.chars, chosen))
        return {}

    def _lens(self, language: str | None) -> Lens:
        # The seed of the job draws the sample, so that a text has one summary whatever its name is.
        terms = terms_of(language or _USUAL_LANGUAGE)
        return Lens(terms, Query.of(self.query or "", terms), str(self.seed))

    def _stretch_key(self, sentence: Sentence) -> str | None:
        if self.every_tokens is not None:
            return str((sentence.token_end - 1) // self.every_tokens)
        return (sentence.section or "") if self.every_section else None

    def _close(self, doc_id: str, lens: Lens, stretch: Stretch | None) -> Generator[Emit, object, None]:
        if stretch is None:
            return
        # A short section is not repeated whole: its summary is a third of it at most, and one sentence at least.
        limit = min(self.max_sentences, -(-stretch.selection.count // _SENTENCES_PER_CHOICE))
        chosen = stretch.selection.choose(Budget(limit, self.max_words), lens)
        if chosen:
            row = self._row(doc_id, "section", stretch.index, stretch.char_start, stretch.char_end, chosen)
            yield Emit("summaries", row)

    def _row(self, doc_id: str, level: str, index: int, start: int, end: int, chosen: tuple[Choice, ...]) -> pa.Table:
        row = {
            "id": f"{doc_id}#{self.name}#{level}{index:05d}",
            "doc_id": doc_id,
            "task": self.name,
            "level": level,
            "index": index,
            "char_start": start,
            "char_end": end,
            "text": "\n".join(choice.candidate.text for choice in chosen),
            "mode": "extractive",
            "citations": [_citation(doc_id, choice.candidate) for choice in chosen],
            "finish_reason": "stop",
            "tokens_generated": 0,
            "seed": self.seed,
            "reasons": [list(choice.reasons) for choice in chosen],
        }
        return pa.Table.from_pylist([row], schema=tables.SUMMARIES)


def make(options: Options) -> Summarize:
    every = options["every"]
    return Summarize(
        name=options["name"],
        seed=options["seed"],
        max_sentences=options["max_sentences"],
        max_words=options.get("max_words"),
        query=options.get("query"),
        every_section=every == "section",
        every_tokens=every["tokens"] if isinstance(every, dict) else None,
        at_end=options["at_end"],
    )


def _citation(doc_id: str, cited: Candidate) -> dict[str, object]:
    place = {"char_start": cited.char_start, "char_end": cited.char_end}
    return {**place, "sentence_id": sentence_id(doc_id, cited.index)}


def _candidates(sentences: tuple[Sentence, ...] | list[Sentence]) -> list[Candidate]:
    return [Candidate(s.index, s.char_start, s.char_end, s.text) for s in sentences]


def _opened(key: str, before: Stretch | None, first: Sentence, query: Query) -> Stretch:
    index = 0 if before is None else before.index + 1
    return Stretch(key, index, first.char_start, first.char_end, Selection.empty(query))


def _extended(stretch: Stretch, part: list[Sentence], lens: Lens) -> Stretch:
    selection = stretch.selection.seen(_candidates(part), lens)
    return replace(stretch, char_end=part[-1].char_end, selection=selection)


def _memory(document: Selection, stretch: Stretch | None) -> Memory:
    memory: dict[str, Value] = {"document": document.to_value()}
    if stretch is not None:
        memory["stretch"] = [stretch.key, stretch.index, stretch.char_start, stretch.char_end]
        memory["stretch_selection"] = stretch.selection.to_value()
    return memory


def _remembered(memory: Memory, query: Query) -> tuple[Selection, Stretch | None]:
    if not memory:
        return Selection.empty(query), None
    document = Selection.from_value(memory["document"])
    if "stretch" not in memory:
        return document, None
    key, index, start, end = cast("tuple[str, int, int, int]", memory["stretch"])
    return document, Stretch(key, index, start, end, Selection.from_value(memory["stretch_selection"]))
