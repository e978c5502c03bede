"""BM25: its parts, and scores over a collection that is added to, text by text. The only place that has its formula.

Knows nothing of where the texts come from.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; the inverse document frequency
is Lucene's, which is never negative.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

K1 = 1.2
B = 0.75

Scores = NDArray[np.float64]


class Index:
    """Texts by their number: 0, 1, 2, … in the order in which they were added. 8 bytes a distinct term of each."""

    def __init__(self) -> None:
        self._lengths = array("I")
        self._texts: dict[str, array[int]] = {}
        self._counts: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, terms: Sequence[str]) -> None:
        """Add a text, given as its terms."""
        number = len(self._lengths)
        self._lengths.append(len(terms))
        for term, count in Counter(terms).items():
            if term not in self._texts:
                self._texts[term] = array("I")
                self._counts[term] = array("I")
            self._texts[term].append(number)
            self._counts[term].append(count)

    def having(self, term: str) -> int:
        """How many texts have a term."""
        return len(self._texts.get(term, ()))

    def scores(self, query: Iterable[str] | Mapping[str, float]) -> Scores:
        """The score of every text, [n]. A query may give its terms weights; a term that is repeated counts once."""
        weights = query if isinstance(query, Mapping) else dict.fromkeys(query, 1.0)
        scores = np.zeros(len(self))
        if not len(self):
            return scores
        damping = length_damping(np.frombuffer(self._lengths, np.uint32))
        for term, weight in sorted(weights.items()):
            texts = self._texts.get(term)
            if texts is not None:
                places = np.frombuffer(texts, np.uint32)
                counts = np.frombuffer(self._counts[term], np.uint32)
                rarity = weight * idf(len(self), len(places))
                scores[places] += rarity * saturated(counts, damping[places])
        return scores


def idf(texts: int, having: int) -> float:
    """How much a term tells that `having` of so many texts have; above 0."""
    return math.log(1 + (texts - having + 0.5) / (having + 0.5))


def rarities(texts: int, having: Iterable[int]) -> Scores:
    """`idf` of each of several terms, [terms]."""
    return np.array([idf(texts, count) for count in having], np.float64)


def length_damping(lengths: ArrayLike, mean: float | None = None) -> Scores:
    """What a text's length in terms adds to the denominator, [n]: k1 for one of mean length, by default theirs."""
    found = np.asarray(lengths, np.float64)
    usual = float(found.mean()) if mean is None else mean
    return np.asarray(K1 * (1 - B + B * found / max(usual, 1e-9)), np.float64)


def saturated(counts: ArrayLike, damping: ArrayLike) -> Scores:
    """How much so many occurrences of a term count, below k1 + 1; any shapes that go together."""
    found = np.asarray(counts, np.float64)
    return np.asarray((K1 + 1) * found / (found + np.asarray(damping, np.float64)), np.float64)
