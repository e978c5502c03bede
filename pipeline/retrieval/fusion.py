"""One ranking out of several: by standard scores, or by ranks. Knows nothing of what was scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

RANK_CONSTANT = 60
"""Of reciprocal rank fusion: Cormack, Clarke and Büttcher, 2009."""

WHOLE, PARTS, NEAR = 0.35, 0.25, 0.4
APART = 3
APART_LOSS = 1.5


def standard(scores: Scores) -> Scores:
    """Scores with mean 0 and deviation 1; zeros where all are equal."""
    spread = float(scores.std()) if len(scores) else 0.0
    if spread < 1e-12:
        return np.zeros_like(scores)
    result: Scores = (scores - scores.mean()) / spread
    return result


def weighted_mean(rankings: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """The mean of the rankings' standard scores [n], by weight."""
    total = sum(weights)
    fused = np.zeros_like(rankings[0])
    for scores, weight in zip(rankings, weights, strict=True):
        fused += weight / total * standard(scores)
    return fused


def reciprocal_ranks(rankings: Sequence[Scores]) -> Scores:
    """The sum over the rankings of 1 / (60 + rank) [n]; equal scores share the best of their ranks."""
    fused = np.zeros_like(rankings[0])
    for scores in rankings:
        ranks = len(scores) + 1 - np.searchsorted(np.sort(scores), scores, side="right")
        fused += 1 / (RANK_CONSTANT + ranks)
    return fused


def best(scores: Scores, count: int) -> list[int]:
    """Places of the `count` highest scores, highest first; of equal ones the earlier first."""
    return [int(place) for place in np.argsort(-scores, kind="stable")[:count]]


def of_passages(whole: Scores, parts: Scores, near: Scores | None) -> Scores:
    """One ranking [n] of passages by the words of all of it, those of its best part, and its nearest vector, if any.

    The weights were chosen on QMSum's train split.
    """
    if near is None:
        return weighted_mean([whole, parts], [WHOLE, PARTS])
    return weighted_mean([whole, parts, near], [WHOLE, PARTS, NEAR])


def best_apart(scores: Scores, count: int) -> list[int]:
    """As `best`, for passages in the order of a text: a chosen one takes some of their score from those around it.

    Neighbours say the same again, and what is looked for may stand elsewhere. They lose 1.5 deviations by distance.
    """
    left = standard(scores)
    chosen: list[int] = []
    for _ in range(min(count, len(left))):
        place = int(np.argmax(left))
        chosen.append(place)
        for distance in range(1, APART + 1):
            for other in (place - distance, place + distance):
                if 0 <= other < len(left):
                    left[other] -= APART_LOSS / distance
        left[place] = -np.inf
    return chosen


def from_the_start(scores: Scores, reach: float = 3.0) -> Scores:
    """Scores [n] of passages in the order of a text, raised where it begins: by two deviations, fading in `reach`."""
    return np.asarray(standard(scores) + 2 * np.exp(-np.arange(len(scores)) / reach), np.float64)
