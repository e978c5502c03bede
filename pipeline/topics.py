"""Where a text turns to another topic, from its sentences' vectors or words. Knows nothing of documents or rows.

The cut into segments with the largest sum of the lengths of their summed vectors (Alemi and Ginsparg, 2015), by
dynamic programming: sentences of one topic point the same way, so their sum is long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_NEVER: Final = -1e18
_PRICE: Final = 10.0
"""What each further topic has to add to the sum of lengths. Chosen on sections of WikiText-2 mixed at random (Pk 0.19;
7 of 8 boundaries found are right, 3 of 5 are found); at half of it, sections of one article are cut to pieces."""
_LEAST_SENTENCES: Final = 4


def boundaries(rows: Floats, segments: int) -> list[int]:
    """The places at which the 2nd to last of so many segments begin, for sentences' vectors [n, d] of any length.

    Raises ValueError if there are fewer sentences than segments.
    """
    count = len(rows)
    if not 1 <= segments <= count:
        raise ValueError(f"{count} sentences cannot be cut into {segments} segments")
    gains = _lengths_of_sums(rows)
    best = np.full((segments + 1, count + 1), _NEVER)
    back = np.zeros((segments + 1, count + 1), np.int64)
    best[0, 0] = 0
    for segment in range(1, segments + 1):
        reached = best[segment - 1][:, None] + gains
        back[segment] = reached.argmax(axis=0)
        best[segment] = reached.max(axis=0)
    places, end = [], count
    for segment in range(segments, 1, -1):
        end = int(back[segment, end])
        places.append(end)
    return places[::-1]


def topic_starts(rows: Floats) -> list[int]:
    """The places at which the 2nd to last topic begin; how many there are is found out.

    For rows [n, d] such as `weighed_words` makes; other lengths would want another price.
    """
    count = len(rows)
    # Rounded, so that a tie is one on every machine, and the first of its places is taken.
    gains = np.round(_lengths_of_sums(rows), 3) - _PRICE
    best = np.full(count + 1, _NEVER)
    back = np.zeros(count + 1, np.int64)
    best[0] = 0
    for end in range(1, count + 1):
        reached = best[:end] + gains[:end, end]
        back[end] = reached[: max(end - _LEAST_SENTENCES + 1, 1)].argmax()
        best[end] = reached[back[end]]
    places, end = [], int(back[count])
    while end > 0:
        places.append(end)
        end = int(back[end])
    return places[::-1]


def weighed_words(sentences: Sequence[Sequence[str]]) -> Floats:
    """Rows [n, terms] of TF-IDF for sentences given as terms; each has the length of the square root of its terms."""
    columns = {term: place for place, term in enumerate(dict.fromkeys(one for terms in sentences for one in terms))}
    rows = np.zeros((len(sentences), len(columns)), np.float32)
    for row, terms in zip(rows, sentences, strict=True):
        for term, times in Counter(terms).items():
            row[columns[term]] = 1 + np.log(times)
    having = np.count_nonzero(rows, axis=0)
    rows *= np.log1p(len(sentences) / np.maximum(having, 1)).astype(np.float32)
    lengths = np.sqrt([len(terms) for terms in sentences]) / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    weighed: Floats = rows * lengths[:, None].astype(np.float32)
    return weighed


def mixed(words: Floats, vectors: Floats, share: float) -> Floats:
    """Rows [n, terms + d] whose products are a mean of those of unit TF-IDF rows and of centred sentence vectors.

    `share` is that of the vectors. What all sentences of the text have in common says nothing of its topics.
    """
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    rows: Floats = np.concatenate([np.sqrt(1 - share) * words, np.sqrt(share) * centred], axis=1).astype(np.float32)
    return rows


def _lengths_of_sums(rows: Floats) -> NDArray[np.float64]:
    """At [i, j] the length of the sum of the rows from i up to j; never where there is none [n + 1, n + 1]."""
    totals = np.vstack([np.zeros(rows.shape[1]), np.cumsum(rows, axis=0, dtype=np.float64)])
    squares = np.square(totals).sum(axis=1)
    lengths = np.sqrt(np.maximum(squares[:, None] + squares - 2 * totals @ totals.T, 0))
    return np.where(np.triu(np.ones_like(lengths), 1) > 0, lengths, _NEVER)
