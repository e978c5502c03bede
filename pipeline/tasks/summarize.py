"""Summaries: sentences of the text itself, verbatim, each cited with its span and the reasons for it; or claims that a
model writes about the best of them, each checked against the sentences that it cites.

A selector runs with the reading, one for the open section and one for the document, so a summary costs no second pass
and its memory does not grow with the document. It goes by words, not by sentence vectors: see DECISIONS.md.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, cast

import pyarrow as pa

from pipeline import tables
from pipeline.query import Query
from pipeline.retrieval.terms import terms_of
from pipeline.salience import Traits
from pipeline.segments import Sentence
from pipeline.selection import Budget, Candidate, Choice, Lens, Selection
from pipeline.tasks import Answer, Emit, Ending, Memory, Moment, Options, Request, Steps, Write
from pipeline.tasks.embed import sentence_id
from pipeline.values import Value

if TYPE_CHECKING:
    from pipeline.claims.writing import Written

TYPE: Final = "summarize"
MATERIAL: Final = 12
"""Sentences that a model is given to write about: the best of a text of any length."""

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
class Place:
    """What a summary is of: half-open, in code points."""

    doc_id: str
    level: str
    index: int
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Summarize:
    """Summaries of every section (or of every `every_tokens` tokens), and of the whole document at its end.

    With a `query` they hold what answers it. A summary ends at `max_sentences` or `max_words`, whichever comes first.
    `written` ones are claims about the best `MATERIAL` sentences, a line each, with the numbers of their citations.
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
    written: bool = False

    @property
    def by_words(self) -> bool:
        return not (self.wants_vectors or self.written)

    def visit(self, moment: Moment) -> Steps:
        sentences = moment.segment.sentences
        if not sentences:
            return moment.memory
        lens = self._lens(moment.facts.language)
        before, stretch = _remembered(moment.memory, lens)
        seen = _candidates(sentences, lens)
        document = before.seen(seen, lens) if self.at_end else before
        for key, group in groupby(zip(sentences, seen, strict=True), key=lambda one: self._stretch_key(one[0])):
            if key is None:
                break
            part, candidates = zip(*group, strict=True)
            if stretch is None or stretch.key != key:
                yield from self._close(moment.ref.doc_id, lens, stretch)
                stretch = _opened(key, stretch, part[0], lens.query)
            # A text without sections is one stretch, of which all has been looked at for the document already.
            is_all = self.at_end and len(part) == len(sentences) and stretch.selection.covers_what(before)
            selection = document if is_all else stretch.selection.seen(candidates, lens)
            stretch = replace(stretch, char_end=part[-1].char_end, selection=selection)
        return _memory(document, stretch)

    def finish(self, ending: Ending) -> Steps:
        if not ending.memory:
            return ending.memory
        lens = self._lens(ending.facts.language)
        document, stretch = _remembered(ending.memory, lens)
        yield from self._close(ending.ref.doc_id, lens, stretch)
        if self.at_end and document.count:
            place = Place(ending.ref.doc_id, "document", 0, 0, ending.chars)
            yield from self._summed_up(place, document, self.max_sentences, lens)
        return {}

    def _lens(self, language: str | None) -> Lens:
        # The seed of the job draws the sample, so that a text has one summary whatever its name is.
        terms = terms_of(language or _USUAL_LANGUAGE)
        return Lens(terms, Query.of(self.query or "", terms), str(self.seed))

    def _stretch_key(self, sentence: Sentence) -> str | None:
        if self.every_tokens is not None:
            return str((sentence.token_end - 1) // self.every_tokens)
        return (sentence.section or "") if self.every_section else None

    def _close(self, doc_id: str, lens: Lens, stretch: Stretch | None) -> Generator[Request, Answer | None, None]:
        if stretch is None:
            return
        # A short section is not repeated whole: its summary is a third of it at most, and one sentence at least.
        limit = min(self.max_sentences, -(-stretch.selection.count // _SENTENCES_PER_CHOICE))
        place = Place(doc_id, "section", stretch.index, stretch.char_start, stretch.char_end)
        yield from self._summed_up(place, stretch.selection, limit, lens)

    def _summed_up(
        self, place: Place, selection: Selection, most: int, lens: Lens
    ) -> Generator[Request, Answer | None, None]:
        """Choose and, if wanted, have written."""
        budget = Budget(MATERIAL) if self.written else Budget(most, self.max_words)
        chosen = selection.choose(budget, lens)
        if not chosen:
            return
        if not self.written:
            yield Emit("summaries", self._row(place, _quoted(place.doc_id, chosen)))
            return
        answer = yield Write(tuple(choice.candidate.text for choice in chosen), most)
        row = _claimed(place.doc_id, chosen, cast("Written", answer))
        yield Emit("summaries", self._row(place, row))

    def _row(self, place: Place, content: dict[str, object]) -> pa.Table:
        row = {
            "id": f"{place.doc_id}#{self.name}#{place.level}{place.index:05d}",
            "task": self.name,
            "seed": self.seed,
            **asdict(place),
            **content,
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
        written=options.get("mode") == "abstractive",
    )


def _quoted(doc_id: str, chosen: Sequence[Choice]) -> dict[str, object]:
    """A summary of the chosen sentences themselves."""
    return {
        "text": "\n".join(choice.candidate.text for choice in chosen),
        "mode": "extractive",
        "citations": [_citation(doc_id, choice.candidate) for choice in chosen],
        "finish_reason": "stop",
        "tokens_generated": 0,
        "reasons": [list(choice.reasons) for choice in chosen],
    }


def _claimed(doc_id: str, chosen: Sequence[Choice], written: Written) -> dict[str, object]:
    """A summary of claims. A line ends with the numbers of its citations; its reasons say whether it was replaced."""
    places = sorted({place for claim in written.claims for place in claim.cited})
    numbers = {place: number for number, place in enumerate(places, start=1)}
    lines = [
        f"{' '.join(claim.text.split())} [{', '.join(str(numbers[place]) for place in claim.cited)}]"
        for claim in written.claims
    ]
    return {
        "text": "\n".join(lines),
        "mode": "abstractive",
        "citations": [_citation(doc_id, chosen[place].candidate) for place in places],
        "finish_reason": written.finish_reason,
        "tokens_generated": written.tokens,
        "reasons": [["claim"] if claim.failed is None else ["replaced", claim.failed] for claim in written.claims],
    }


def _citation(doc_id: str, cited: Candidate) -> dict[str, object]:
    place = {"char_start": cited.char_start, "char_end": cited.char_end}
    return {**place, "sentence_id": sentence_id(doc_id, cited.index)}


def _candidates(sentences: Sequence[Sentence], lens: Lens) -> list[Candidate]:
    return [Candidate(s.index, s.char_start, s.char_end, s.text, 0, Traits.of(s.text, lens.terms)) for s in sentences]


def _opened(key: str, before: Stretch | None, first: Sentence, query: Query) -> Stretch:
    index = 0 if before is None else before.index + 1
    return Stretch(key, index, first.char_start, first.char_end, Selection.empty(query))


def _memory(document: Selection, stretch: Stretch | None) -> Memory:
    memory: dict[str, Value] = {"document": document}
    if stretch is not None:
        memory["stretch"] = [stretch.key, stretch.index, stretch.char_start, stretch.char_end]
        memory["stretch_selection"] = stretch.selection
    return memory


def _remembered(memory: Memory, lens: Lens) -> tuple[Selection, Stretch | None]:
    if not memory:
        return Selection.empty(lens.query), None
    document = _selection(memory["document"], lens)
    if "stretch" not in memory:
        return document, None
    key, index, start, end = cast("tuple[str, int, int, int]", memory["stretch"])
    return document, Stretch(key, index, start, end, _selection(memory["stretch_selection"], lens))


def _selection(kept: Value, lens: Lens) -> Selection:
    """What was handed back, or what a checkpoint holds of it."""
    return kept if isinstance(kept, Selection) else Selection.from_value(kept, lens.terms)
