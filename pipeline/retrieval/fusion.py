"""One ranking out of several: by standard scores, or by ranks. Knows nothing of what was scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

RANK_CONSTANT = 60
"""Of reciprocal rank fusion: Cormack, Clarke and Büttcher, 2009."""


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


def from_the_start(scores: Scores, reach: float = 3.0) -> Scores:
    """Scores [n] of passages in the order of a text, raised where it begins: by two deviations, fading in `reach`."""
    return np.asarray(standard(scores) + 2 * np.exp(-np.arange(len(scores)) / reach), np.float64)
