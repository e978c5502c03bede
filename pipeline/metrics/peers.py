"""Simple methods that choose sentences: what a new one has to beat. They see the whole text at once.

The lead, closeness to the TF-IDF centroid, LexRank (Erkan and Radev, 2004) with and without weight on the ends of the
text, and, where something is asked, BM25 by sentence and by the sentences around.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.retrieval.bm25 import Index

Floats = NDArray[np.float64]

_SHORTEST: Final = 4
_FULL: Final = 0.93
_WINDOW: Final = 9


@dataclass(frozen=True)
class Text:
    """Sentences and the terms of each."""

    sentences: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, sentences: Sequence[str], terms: Callable[[str], list[str]]) -> Text:
        return cls(tuple(sentences), tuple(tuple(terms(sentence)) for sentence in sentences))

    @cached_property
    def columns(self) -> Mapping[str, int]:
        return {term: place for place, term in enumerate(dict.fromkeys(t for terms in self.terms for t in terms))}

    @cached_property
    def counts(self) -> NDArray[np.float32]:
        """How often each sentence has each term [n, terms]."""
        found = np.zeros((len(self.terms), len(self.columns)), np.float32)
        for row, terms in zip(found, self.terms, strict=True):
            for term, times in Counter(terms).items():
                row[self.columns[term]] = times
        return found

    @cached_property
    def tfidf(self) -> NDArray[np.float32]:
        """Unit rows [n, terms]."""
        having = (self.counts > 0).sum(axis=0)
        rows = np.log1p(np.maximum(self.counts - 1, 0)) + (self.counts > 0)
        rows = (rows * np.log1p(len(self.terms) / np.maximum(having, 1))).astype(np.float32)
        unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return unit

    @cached_property
    def lexrank(self) -> Floats:
        graph = (self.tfidf @ self.tfidf.T).astype(np.float64)
        graph[graph < 0.1] = 0
        np.fill_diagonal(graph, 0)
        share = np.maximum(graph.sum(axis=1), 1e-12)
        rank = np.full(len(graph), 1 / len(graph))
        for _ in range(40):
            rank = 0.15 / len(graph) + 0.85 * graph @ (rank / share)
        return rank

    @cached_property
    def centroid(self) -> Floats:
        centre = self.tfidf.mean(axis=0)
        return np.asarray(self.tfidf @ centre, np.float64)

    def bm25(self, query: Sequence[str]) -> Floats:
        """BM25 of each sentence [n]."""
        index = Index()
        for terms in self.terms:
            index.add(terms)
        return index.scores(query)


def peers(text: Text, query: Sequence[str]) -> Iterator[tuple[str, Floats, float]]:
    """Name, score of each sentence [n], and the likeness to a chosen one beyond which a sentence is passed over."""
    place = np.arange(len(text.sentences))
    ends = 1.25 - np.minimum(place, place[::-1]) / len(place)
    yield "lead", -place.astype(np.float64), 2.0
    yield "TF-IDF centroid", text.centroid, 0.5
    yield "LexRank", text.lexrank, 0.6
    yield "LexRank, ends first", text.lexrank * ends, 0.6
    if query:
        scores = text.bm25(query)
        around = np.convolve(scores, np.full(_WINDOW, 1 / _WINDOW))[_WINDOW // 2 :][: len(scores)]
        yield "BM25", scores, 0.6
        mixed = 0.5 * _scaled(around) + 0.3 * _scaled(scores) + 0.2 * _scaled(text.centroid)
        yield "BM25, sentences around", mixed, 0.6


def in_order_of(scores: Floats, text: Text, words: int, alike: float) -> list[int]:
    """The places of the best sentences within so many words, none too much like another, in text order."""
    chosen: list[int] = []
    spent = 0
    for place in np.argsort(-scores, kind="stable").tolist():
        length = len(text.sentences[place].split())
        if length < _SHORTEST or spent + length > words:
            continue
        if chosen and float((text.tfidf[chosen] @ text.tfidf[place]).max()) > alike:
            continue
        chosen.append(place)
        spent += length
        if spent >= words * _FULL:
            break
    return sorted(chosen)


def _scaled(values: Floats) -> Floats:
    scaled: Floats = values / max(float(values.max(initial=0)), 1e-12)
    return scaled
