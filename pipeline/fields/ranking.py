"""Ranks the passages of a document for fields that are described in words only, in one pass and bounded memory.

A passage is a few sentences. The words of each field are known before the reading begins, so it is enough to count
those: the best passages by words and by vectors are kept, and ranked together once all frequencies are known. Knows
nothing of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.fields.field import Field
from pipeline.retrieval.bm25 import K1, length_damping, rarities, saturated
from pipeline.retrieval.fusion import best, reciprocal_ranks
from pipeline.retrieval.passages import PASSAGE_CHARS
from pipeline.retrieval.terms import Terms
from pipeline.segments import Sentence
from pipeline.values import Value

KEPT: Final = 24
"""Passages kept for a field by words, and as many by vectors."""

_START_PASSAGES: Final = 3.0
_START_WEIGHT: Final = 0.4


@dataclass(frozen=True)
class Quote:
    """A sentence that may be the answer, and how near it is to the question."""

    index: int
    char_start: int
    char_end: int
    page: int | None
    text: str
    cosine: float
    shared: int


@dataclass(frozen=True)
class Passage:
    """A passage as one field sees it: how often it has each of the field's words, and the best of its sentences."""

    number: int
    terms: int
    counts: tuple[int, ...]
    cosine: float
    quote: Quote


@dataclass(frozen=True)
class Ranking:
    """The passages of one field so far. `having` counts, for each word of the field, the passages with it."""

    having: tuple[int, ...] = ()
    passages: int = 0
    terms: int = 0
    kept: tuple[Passage, ...] = ()

    def seen(self, passage: Passage) -> Ranking:
        """The ranking behind one more passage."""
        having = self.having or (0,) * len(passage.counts)
        grown = replace(
            self,
            having=tuple(count + (1 if n else 0) for count, n in zip(having, passage.counts, strict=True)),
            passages=self.passages + 1,
            terms=self.terms + passage.terms,
        )
        kept = (*self.kept, passage)
        if len(kept) > 2 * KEPT:
            words = grown.word_scores(kept)
            vectors = np.array([one.cosine for one in kept])
            chosen = sorted({*best(words, KEPT), *best(vectors, KEPT)})
            kept = tuple(kept[place] for place in chosen)
        return replace(grown, kept=kept)

    def word_scores(self, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """BM25 of passages, with the frequencies known so far."""
        counts = np.array([one.counts for one in passages], np.float64).reshape(len(passages), len(self.having))
        damping = length_damping([one.terms for one in passages], self.terms / max(self.passages, 1))
        scores: NDArray[np.float64] = saturated(counts, damping[:, None]) @ rarities(self.passages, self.having)
        return scores

    def share_of_words(self, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """How much of what the field's words can score at most each passage has, from 0 to 1."""
        most = (K1 + 1) * float(rarities(self.passages, self.having).sum())
        return self.word_scores(passages) / max(most, 1e-9)

    def ranked(self, at_start: bool) -> list[tuple[Passage, float]]:
        """The passages kept, the best first, each with its share of the field's words."""
        if not self.kept:
            return []
        scores = reciprocal_ranks([self.word_scores(self.kept), np.array([one.cosine for one in self.kept])])
        if at_start:
            prior = np.exp(-np.array([one.number for one in self.kept]) / _START_PASSAGES)
            scores = scores + _START_WEIGHT * prior * scores.max()
        shares = self.share_of_words(self.kept)
        return [(self.kept[place], float(shares[place])) for place in best(scores, len(self.kept))]

    def to_value(self) -> dict[str, Value]:
        rows = [[p.number, p.terms, list(p.counts), p.cosine, list(astuple(p.quote))] for p in self.kept]
        return {
            "having": list(self.having),
            "passages": self.passages,
            "terms": self.terms,
            "kept": cast("Value", rows),
        }

    @classmethod
    def from_value(cls, value: Any) -> Ranking:
        kept = tuple(Passage(n, t, tuple(c), cosine, Quote(*quote)) for n, t, c, cosine, quote in value["kept"])
        return cls(tuple(value["having"]), value["passages"], value["terms"], kept)


@dataclass(frozen=True)
class Question:
    """A field's words in their order, and its vector [dimensions], if the model gave one."""

    words: tuple[str, ...]
    vector: NDArray[np.float32] | None

    @classmethod
    def of(cls, field: Field, terms: Terms, vector: NDArray[np.float32] | None) -> Question:
        return cls(tuple(sorted(set(terms(field.question)))), vector)

    def passage(
        self, number: int, sentences: Sequence[Sentence], vectors: NDArray[np.float32] | None, terms: Terms
    ) -> Passage:
        """A passage as this question sees it. `vectors` [n, dimensions] belong to its sentences."""
        words = [terms(sentence.text) for sentence in sentences]
        together = [word for found in words for word in found]
        cosines = np.zeros(len(sentences))
        if vectors is not None and self.vector is not None:
            cosines = vectors.astype(np.float64) @ self.vector
        shared = [len(set(self.words) & set(found)) for found in words]
        most = max(shared) or 1
        place = int(np.argmax(cosines + np.array(shared) / most))
        one = sentences[place]
        quote = Quote(one.index, one.char_start, one.char_end, one.page, one.text, float(cosines[place]), shared[place])
        counts = tuple(together.count(word) for word in self.words)
        return Passage(number, len(together), counts, float(cosines.max()), quote)


@dataclass(frozen=True)
class Open:
    """The sentences of the passage that is not complete yet, with their vectors [n, dimensions]."""

    number: int = 0
    sentences: tuple[Sentence, ...] = ()
    vectors: NDArray[np.float32] | None = None

    @property
    def is_full(self) -> bool:
        return bool(self.sentences) and self.sentences[-1].char_end - self.sentences[0].char_start >= PASSAGE_CHARS

    def with_one(self, sentence: Sentence, vector: NDArray[np.float32] | None) -> Open:
        vectors = self.vectors
        if vector is not None:
            vectors = vector[None] if vectors is None else np.concatenate([vectors, vector[None]])
        return Open(self.number, (*self.sentences, sentence), vectors)

    def to_value(self) -> dict[str, Value]:
        rows = [list(astuple(sentence)) for sentence in self.sentences]
        return {"number": self.number, "sentences": cast("Value", rows), "vectors": self.vectors}

    @classmethod
    def from_value(cls, value: Any) -> Open:
        return cls(value["number"], tuple(Sentence(*row) for row in value["sentences"]), value["vectors"])
