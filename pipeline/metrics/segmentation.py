"""How well a text was cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pk(pieces: Sequence[int], places: Sequence[int]) -> float:
    """The share of pairs, half a piece apart, of which the cut wrongly says whether they are of one piece.

    `pieces` [n] says which each sentence is of, in rising order; `places` where found pieces begin, but the first.
    Source: Beeferman, Berger and Lafferty, 1999.
    """
    right = np.asarray(pieces)
    found = np.zeros(len(right), np.int64)
    for place in places:
        found[place:] += 1
    apart = max(2, round(len(right) / (2 * len(set(pieces)))))
    if len(right) <= apart:
        return 0.0
    wrong = (right[apart:] == right[:-apart]) != (found[apart:] == found[:-apart])
    return float(wrong.mean())
