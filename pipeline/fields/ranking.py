"""Ranks the passages of a document for fields that are described in words only, in one pass and bounded memory.

A passage is a few sentences. The words of each field are known before the reading begins, so it is enough to count
those: the best passages by words and by vectors are kept, and ranked together once all frequencies are known. A field
with cues goes by those words, the first of which tell most; one without by its description and its vector. Knows
nothing of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.fields.field import Field
from pipeline.retrieval.bm25 import K1, length_damping, rarities, saturated
from pipeline.retrieval.fusion import best, reciprocal_ranks
from pipeline.retrieval.passages import PASSAGE_CHARS
from pipeline.retrieval.terms import Terms, terms_of
from pipeline.segments import Sentence
from pipeline.values import Value

KEPT: Final = 24
"""Passages kept for a field by words, and as many by vectors."""

NEXT_CUE: Final = 0.85
"""How much of a cue's weight the next one has."""

BESIDE_CUES: Final = 0.1
"""The weight of a word of the description where there are cues."""

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


@dataclass(frozen=True)
class Passage:
    """A passage as one field sees it: how often it has each of the field's words, and the best of its sentences."""

    number: int
    terms: int
    counts: tuple[int, ...]
    cosine: float
    quote: Quote

    def to_value(self) -> Value:
        one = self.quote
        quote: list[Value] = [one.index, one.char_start, one.char_end, one.page, one.text, one.cosine]
        return [self.number, self.terms, list(self.counts), self.cosine, quote]

    @classmethod
    def from_value(cls, value: Any) -> Passage:
        number, terms, counts, cosine, quote = value
        return cls(number, terms, tuple(counts), cosine, Quote(*quote[:6]))  # older runs' quotes had one value more


@dataclass(frozen=True)
class Ranking:
    """The passages of one field so far. `having` counts, for each word of the field, the passages with it.

    `kept` are passages as plain values: a memory is handed on at every window, and few of them are looked at.
    """

    having: tuple[int, ...] = ()
    passages: int = 0
    terms: int = 0
    kept: tuple[Value, ...] = ()

    def seen(self, passage: Passage, wording: Wording) -> Ranking:
        """The ranking behind one more passage."""
        having = self.having or (0,) * len(passage.counts)
        grown = replace(
            self,
            having=tuple(count + (1 if n else 0) for count, n in zip(having, passage.counts, strict=True)),
            passages=self.passages + 1,
            terms=self.terms + passage.terms,
        )
        kept = (*self.kept, passage.to_value())
        if len(kept) > 2 * KEPT:
            passages = [Passage.from_value(one) for one in kept]
            words = grown.word_scores(passages, wording)
            vectors = np.array([one.cosine for one in passages])
            chosen = sorted({*best(words, KEPT), *best(vectors, KEPT)})
            kept = tuple(kept[place] for place in chosen)
        return replace(grown, kept=kept)

    def word_scores(self, passages: Sequence[Passage], wording: Wording) -> NDArray[np.float64]:
        """BM25 of passages, with the frequencies known so far."""
        counts = np.array([one.counts for one in passages], np.float64).reshape(len(passages), len(self.having))
        damping = length_damping([one.terms for one in passages], self.terms / max(self.passages, 1))
        scores: NDArray[np.float64] = saturated(counts, damping[:, None]) @ self._rarities(wording)
        return scores

    def share_of_words(self, passages: Sequence[Passage], wording: Wording) -> NDArray[np.float64]:
        """How much of what the field's words can score at most each passage has, from 0 to 1."""
        most = (K1 + 1) * float(self._rarities(wording).sum())
        return self.word_scores(passages, wording) / max(most, 1e-9)

    def ranked(self, field: Field, wording: Wording) -> list[tuple[Passage, float]]:
        """The passages kept, the best first, each with its share of the field's words."""
        if not self.kept:
            return []
        kept = [Passage.from_value(one) for one in self.kept]
        scores = self.word_scores(kept, wording)
        if not field.cues:
            scores = reciprocal_ranks([scores, np.array([one.cosine for one in kept])])
        if field.at_start:
            prior = np.exp(-np.array([one.number for one in kept]) / _START_PASSAGES)
            scores = scores + _START_WEIGHT * prior * scores.max()
        shares = self.share_of_words(kept, wording)
        return [(kept[place], float(shares[place])) for place in best(scores, len(kept))]

    def _rarities(self, wording: Wording) -> NDArray[np.float64]:
        return np.array(wording.weights) * rarities(self.passages, self.having)

    def to_value(self) -> dict[str, Value]:
        return {
            "having": list(self.having),
            "passages": self.passages,
            "terms": self.terms,
            "kept": list(self.kept),
        }

    @classmethod
    def from_value(cls, value: Any) -> Ranking:
        return cls(tuple(value["having"]), value["passages"], value["terms"], tuple(value["kept"]))


@dataclass(frozen=True)
class Wording:
    """The terms that a field is known by, in their order, and how much each weighs."""

    words: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, field: Field, terms: Terms) -> Wording:
        weighed = dict.fromkeys(terms(field.question), BESIDE_CUES if field.cues else 1.0)
        for place, cue in enumerate(field.cues):
            for term in terms(cue):
                weighed[term] = max(weighed[term], NEXT_CUE**place)
        words = tuple(sorted(weighed))
        return cls(words, tuple(weighed[word] for word in words))


@lru_cache(maxsize=1024)
def wording_of(field: Field, language: str) -> Wording:
    """A field's terms in a language; kept, since every passage is held against them."""
    return Wording.of(field, terms_of(language))


@dataclass(frozen=True)
class Sentences:
    """A passage before any field has seen it: its sentences with the terms of each and of all, and their vectors
    [n, dimensions], if there are any."""

    number: int
    sentences: tuple[Sentence, ...]
    terms: tuple[frozenset[str], ...]
    counts: Mapping[str, int]
    vectors: NDArray[np.float32] | None

    @classmethod
    def of(cls, passage: Open, terms: Terms) -> Sentences:
        found = [terms(sentence.text) for sentence in passage.sentences]
        counts = Counter(term for one in found for term in one)
        return cls(passage.number, passage.sentences, tuple(map(frozenset, found)), counts, passage.vectors)

    def seen_by(self, wording: Wording, vector: NDArray[np.float32] | None) -> Passage:
        """The passage as a field sees it, whose question has this vector [dimensions], if the model gave one."""
        weighed = list(zip(wording.words, wording.weights, strict=True))
        shared = np.array([sum(weight for word, weight in weighed if word in one) for one in self.terms])
        cosines = np.zeros(len(self.sentences))
        if self.vectors is not None and vector is not None:
            cosines = self.vectors.astype(np.float64) @ vector
        place = int(np.argmax(cosines + shared / max(float(shared.max()), 1e-9)))
        one = self.sentences[place]
        quote = Quote(one.index, one.char_start, one.char_end, one.page, one.text, float(cosines[place]))
        counts = tuple(self.counts.get(word, 0) for word in wording.words)
        return Passage(self.number, sum(self.counts.values()), counts, float(cosines.max()), quote)


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
