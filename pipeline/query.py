"""What somebody wants to know of a text, as sentences can be held against it while they stream by.

A sentence answers by its own words and by those around it: speakers and narrators name a thing once and go on about
it. Scores are BM25 (Robertson and Zaragoza, 2009) with the counts of the text itself. Knows nothing of documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.retrieval.bm25 import length_damping, rarities, saturated
from pipeline.salience import Terms

Floats = NDArray[np.float32]

_USUAL_LENGTH: Final = 20
AROUND: Final = 4
_ASKING: Final = re.compile(
    r"\b(?:summari[sz]e\w*|summary|describe\w*|discuss\w*|thinks?|thoughts?|opinions?|plot|story|meeting|happens?|text|"
    r"document|explain|tell|give|list|overview)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Query:
    """The terms that are looked for. Without any, there is no query."""

    terms: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, terms: Terms) -> Query:
        """A query in words. Words that ask, such as `summarize` or `plot`, are not what is asked about."""
        return cls(tuple(dict.fromkeys(terms(_ASKING.sub(" ", text)))))

    def marks(self, counts: Mapping[str, int]) -> Floats:
        """How much a sentence with these terms has of each term looked for [terms], before their rarity is known."""
        damping = length_damping(sum(counts.values()), _USUAL_LENGTH)
        return saturated([counts.get(term, 0) for term in self.terms], damping).astype(np.float32)

    def rarity(self, count: int, frequency: Mapping[str, int]) -> Floats:
        """Of each term looked for [terms]: how much it tells, by the sentences of `count` that have it."""
        having = np.array([frequency.get(term, 0) for term in self.terms])
        return np.where(having > 0, rarities(count, having), 0).astype(np.float32)


def share_around(distance: int) -> float:
    """How much of a sentence's marks one `distance` sentences away gets, falling to nothing beyond `AROUND`."""
    return max(0.0, 1 - distance / (AROUND + 1))
