"""Values of the fields of a schema, each a stretch of the text with its place.

Rules run over the text as it is read; for fields that are only described, passages are ranked by words and by vectors,
and the best sentence is quoted. Values of fields with many are written as they are met, the others when the document
has ended. Memory does not grow with the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import tables
from pipeline.fields.calibration import CUED_POINTS, RANKED_POINTS, confidence
from pipeline.fields.field import Field
from pipeline.fields.finding import Found, find
from pipeline.fields.ledger import Ledger
from pipeline.fields.ranking import Open, Passage, Ranking, Sentences, wording_of
from pipeline.fields.stretches import Buffer, Stretch, cores
from pipeline.fields.values import as_json, squeezed
from pipeline.retrieval.terms import terms_of
from pipeline.tasks import Emit, Ending, Moment, Options, Steps
from pipeline.tasks.embed import sentence_id
from pipeline.values import Value

TYPE: Final = "extract"


@dataclass(frozen=True)
class Remembered:
    """What is known of a document between two segments."""

    buffer: Buffer
    ledgers: Mapping[str, Ledger]
    rankings: Mapping[str, Ranking]
    open: Open
    language: str

    def to_value(self) -> dict[str, Value]:
        return {
            "buffer": self.buffer.to_value(),
            "ledgers": {name: ledger.to_value() for name, ledger in self.ledgers.items()},
            "rankings": {name: ranking.to_value() for name, ranking in self.rankings.items()},
            "open": self.open.to_value(),
            "language": self.language,
        }

    @classmethod
    def of(cls, memory: Any, language: str) -> Remembered:
        if not memory:
            return cls(Buffer(), {}, {}, Open(), language)
        return cls(
            Buffer.from_value(memory["buffer"]),
            {name: Ledger.from_value(value) for name, value in memory["ledgers"].items()},
            {name: Ranking.from_value(value) for name, value in memory["rankings"].items()},
            Open.from_value(memory["open"]),
            memory["language"],
        )


@dataclass(frozen=True)
class Extract:
    """Finds the fields of a schema."""

    name: str
    fields: tuple[Field, ...]

    @property
    def wants_vectors(self) -> bool:
        return bool(self.queries)

    @property
    def by_words(self) -> bool:
        return not self.queries

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """Texts whose vectors the task wants to compare sentences with."""
        return tuple(field.question for field in self._ranked if not field.cues)

    @property
    def _ranked(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_ranked)

    def visit(self, moment: Moment) -> Steps:
        if not moment.segment.sentences:
            return moment.memory
        before = Remembered.of(moment.memory, moment.facts.language)
        buffer, ledgers = before.buffer.seen(moment.segment.sentences), before.ledgers
        rows: list[dict[str, object]] = []
        for stretch, rest in cores(buffer):
            buffer = rest
            ledgers, found = self._searched(stretch, ledgers, before.language)
            rows += self._rows(moment.ref.doc_id, found)
        if rows:
            yield _emitted(rows)
        rankings, passage = self._ranked_with(moment, before)
        return Remembered(buffer, ledgers, rankings, passage, before.language).to_value()

    def finish(self, ending: Ending) -> Steps:
        if not ending.memory:
            return ending.memory
        known = Remembered.of(ending.memory, "")
        ledgers = known.ledgers
        rows: list[dict[str, object]] = []
        stretch = known.buffer.last_core()
        if stretch is not None:
            ledgers, found = self._searched(stretch, ledgers, known.language)
            rows += self._rows(ending.ref.doc_id, found)
        best = ((field, one) for field in self.fields for one in ledgers.get(field.name, Ledger()).answers())
        rows += self._rows(ending.ref.doc_id, best)
        rankings = known.rankings
        if known.open.sentences and self._ranked:
            rankings = self._passage_seen(known.open, rankings, known.language, ending.queries)
        for field in self._ranked:
            ranking = rankings.get(field.name, Ranking())
            rows += self._ranked_rows(ending.ref.doc_id, field, ranking, known.language)
        if rows:
            yield _emitted(rows)
        return {}

    def _searched(
        self, stretch: Stretch, ledgers: Mapping[str, Ledger], language: str
    ) -> tuple[dict[str, Ledger], list[tuple[Field, Found]]]:
        grown, listed = dict(ledgers), []
        for field in self.fields:
            if not field.is_ranked:
                found = find(field, stretch, language)
                grown[field.name], now = grown.get(field.name, Ledger()).added(field, found)
                listed += [(field, one) for one in now]
        return grown, listed

    def _ranked_with(self, moment: Moment, before: Remembered) -> tuple[Mapping[str, Ranking], Open]:
        rankings, passage = before.rankings, before.open
        if not self._ranked:
            return rankings, passage
        for place, sentence in enumerate(moment.segment.sentences):
            vector = None if moment.vectors is None else moment.vectors[place]
            passage = passage.with_one(sentence, vector)
            if passage.is_full:
                rankings = self._passage_seen(passage, rankings, before.language, moment.queries)
                passage = Open(passage.number + 1)
        return rankings, passage

    def _passage_seen(
        self,
        passage: Open,
        rankings: Mapping[str, Ranking],
        language: str,
        queries: Mapping[str, NDArray[np.float32]],
    ) -> dict[str, Ranking]:
        grown, sentences = dict(rankings), Sentences.of(passage, terms_of(language))
        for field in self._ranked:
            wording = wording_of(field, language)
            seen = sentences.seen_by(wording, queries.get(field.question))
            grown[field.name] = grown.get(field.name, Ranking()).seen(seen, wording)
        return grown

    def _rows(self, doc_id: str, found: Iterable[tuple[Field, Found]]) -> Iterator[dict[str, object]]:
        for field, one in found:
            yield {
                "id": f"{doc_id}#{self.name}#{field.name}#c{one.char_start:09d}",
                "doc_id": doc_id,
                "task": self.name,
                "field": field.name,
                "value": as_json(one.match.value),
                "normalized": one.match.normalized,
                "quote": one.quote,
                "char_start": one.char_start,
                "char_end": one.char_end,
                "page": one.page,
                "sentence_id": sentence_id(doc_id, one.sentence),
                "method": "rule",
                "confidence": one.confidence,
                "valid": True,
                "alignment": "exact",
            }

    def _ranked_rows(self, doc_id: str, field: Field, ranking: Ranking, language: str) -> Iterator[dict[str, object]]:
        wanted = 1 if field.cardinality == "one" else PASSAGES
        for passage, share in ranking.ranked(field, wording_of(field, language))[:wanted]:
            sure = likelihood(field, passage, share)
            if sure >= field.min_confidence:
                yield self._quote_row(doc_id, field, passage, sure)

    def _quote_row(self, doc_id: str, field: Field, passage: Passage, sure: float) -> dict[str, object]:
        quote = passage.quote
        value = squeezed(quote.text)
        return {
            "id": f"{doc_id}#{self.name}#{field.name}#c{quote.char_start:09d}",
            "doc_id": doc_id,
            "task": self.name,
            "field": field.name,
            "value": as_json(value),
            "normalized": value.lower(),
            "quote": quote.text,
            "char_start": quote.char_start,
            "char_end": quote.char_end,
            "page": quote.page,
            "sentence_id": sentence_id(doc_id, quote.index),
            "method": "span",
            "confidence": sure,
            "valid": True,
            "alignment": "exact",
        }


PASSAGES: Final = 5
"""Sentences quoted at most for a field that is described in words and may have many values."""


def likelihood(field: Field, passage: Passage, share: float) -> float:
    """How likely a passage answers, by its share of the field's words, and by its vector if there are no cues."""
    if field.cues:
        return confidence(share, CUED_POINTS)
    return confidence(0.5 * share + 0.5 * max(passage.cosine, 0.0), RANKED_POINTS)


def make(options: Options) -> Extract:
    return Extract(options["name"], tuple(Field.of(field) for field in options["schema"]["fields"]))


def _emitted(rows: list[dict[str, object]]) -> Emit:
    return Emit("extractions", pa.Table.from_pylist(rows, schema=tables.EXTRACTIONS))
