"""Where a text turns to another topic, from its sentences' vectors. Knows nothing of documents or rows.

The cut into segments with the largest sum of the lengths of their summed vectors (Alemi and Ginsparg, 2015), by
dynamic programming: sentences of one topic point the same way, so their sum is long.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_NEVER: Final = -1e18


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
