"""Extractive summaries: sentences of the text itself, verbatim, each cited with its span.

A selector over the sentence vectors runs with the reading, one for the open section and one for the document, so
a summary costs no second pass and its memory does not grow with the document.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import tables
from pipeline.segments import Sentence
from pipeline.selection import Candidate, Selection
from pipeline.tasks import Emit, Ending, Memory, Moment, Options, Steps
from pipeline.tasks.embed import sentence_id
from pipeline.values import Value

TYPE: Final = "summarize"
_SENTENCES_PER_CHOICE: Final = 3


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
    """Summaries of every section (or of every `every_tokens` tokens), and of the whole document at its end."""

    name: str
    seed: int
    max_sentences: int = 5
    every_section: bool = True
    every_tokens: int | None = None
    at_end: bool = True
    wants_vectors: bool = True

    def visit(self, moment: Moment) -> Steps:
        vectors = moment.vectors
        if vectors is None or not moment.segment.sentences:
            return moment.memory
        document, stretch = _remembered(moment.memory, vectors.shape[1])
        sentences = moment.segment.sentences
        if self.at_end:
            document = document.seen(_candidates(sentences), vectors, moment.ref.doc_id)
        first = 0
        for key, group in groupby(sentences, key=self._stretch_key):
            if key is None:
                break
            part = list(group)
            if stretch is None or stretch.key != key:
                yield from self._close(moment.ref.doc_id, stretch)
                stretch = _opened(key, stretch, part[0], vectors.shape[1])
            stretch = _extended(stretch, part, vectors[first : first + len(part)], moment.ref.doc_id)
            first += len(part)
        return _memory(document, stretch)

    def finish(self, ending: Ending) -> Steps:
        if not ending.memory:
            return ending.memory
        document, stretch = _remembered(ending.memory, 0)
        yield from self._close(ending.ref.doc_id, stretch)
        if self.at_end and document.count:
            chosen = document.choose(self.max_sentences)
            yield Emit("summaries", self._row(ending.ref.doc_id, "document", 0, 0, ending.chars, chosen))
        return {}

    def _stretch_key(self, sentence: Sentence) -> str | None:
        if self.every_tokens is not None:
            return str((sentence.token_end - 1) // self.every_tokens)
        return (sentence.section or "") if self.every_section else None

    def _close(self, doc_id: str, stretch: Stretch | None) -> Generator[Emit, object, None]:
        if stretch is None:
            return
        # A short section is not repeated whole: its summary is a third of it at most, and one sentence at least.
        limit = min(self.max_sentences, -(-stretch.selection.count // _SENTENCES_PER_CHOICE))
        chosen = stretch.selection.choose(limit)
        yield Emit(
            "summaries",
            self._row(doc_id, "section", stretch.index, stretch.char_start, stretch.char_end, chosen),
        )

    def _row(
        self, doc_id: str, level: str, index: int, start: int, end: int, chosen: tuple[Candidate, ...]
    ) -> pa.Table:
        row = {
            "id": f"{doc_id}#{self.name}#{level}{index:05d}",
            "doc_id": doc_id,
            "task": self.name,
            "level": level,
            "index": index,
            "char_start": start,
            "char_end": end,
            "text": "\n".join(sentence.text for sentence in chosen),
            "mode": "extractive",
            "citations": [
                {
                    "char_start": c.char_start,
                    "char_end": c.char_end,
                    "sentence_id": sentence_id(doc_id, c.index),
                }
                for c in chosen
            ],
            "finish_reason": "stop",
            "tokens_generated": 0,
            "seed": self.seed,
        }
        return pa.Table.from_pylist([row], schema=tables.SUMMARIES)


def make(options: Options) -> Summarize:
    every = options["every"]
    return Summarize(
        name=options["name"],
        seed=options["seed"],
        max_sentences=options["max_sentences"],
        every_section=every == "section",
        every_tokens=every["tokens"] if isinstance(every, dict) else None,
        at_end=options["at_end"],
    )


def _candidates(sentences: tuple[Sentence, ...] | list[Sentence]) -> list[Candidate]:
    return [Candidate(s.index, s.char_start, s.char_end, s.text, 0.0) for s in sentences]


def _opened(key: str, before: Stretch | None, first: Sentence, dimensions: int) -> Stretch:
    index = 0 if before is None else before.index + 1
    return Stretch(key, index, first.char_start, first.char_end, Selection.empty(dimensions))


def _extended(stretch: Stretch, part: list[Sentence], vectors: NDArray[np.float32], salt: str) -> Stretch:
    selection = stretch.selection.seen(_candidates(part), vectors, salt)
    return Stretch(stretch.key, stretch.index, stretch.char_start, part[-1].char_end, selection)


def _memory(document: Selection, stretch: Stretch | None) -> Memory:
    memory: dict[str, Value] = {"document": document.to_value()}
    if stretch is not None:
        memory["stretch"] = [stretch.key, stretch.index, stretch.char_start, stretch.char_end]
        memory["stretch_selection"] = stretch.selection.to_value()
    return memory


def _remembered(memory: Memory, dimensions: int) -> tuple[Selection, Stretch | None]:
    if not memory:
        return Selection.empty(dimensions), None
    document = Selection.from_value(memory["document"])
    if "stretch" not in memory:
        return document, None
    key, index, start, end = cast("tuple[str, int, int, int]", memory["stretch"])
    return document, Stretch(key, index, start, end, Selection.from_value(memory["stretch_selection"]))
