"""Whether two measures put things in the same order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two sequences [n], ties at their mean rank; not a number if one is constant."""
    ranks = np.stack([_ranks(np.asarray(first, np.float64)), _ranks(np.asarray(second, np.float64))])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    spread = float(np.sqrt(np.square(centred).sum(axis=1).prod()))
    return float(centred[0] @ centred[1]) / spread if spread else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value, from 0; equal ones share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    mean: NDArray[np.float64] = last - (count - 1) / 2
    return mean[place]
