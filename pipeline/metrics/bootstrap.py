"""How sure a figure is: percentile bootstrap over the items that it was measured on (Efron, 1979).

Draws come from numpy's frozen generator, so the same values and seed give the same interval on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evals import Estimate

RESAMPLES: Final = 1000
LEVEL: Final = 95.0


def estimate(per_item_values: ArrayLike, seed: int = 0) -> Estimate:
    """The mean of one value per item [n], with its interval; of no items, not a number."""
    values = np.asarray(per_item_values, np.float64)
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"))
    return _interval(float(values.mean()), values[_draws(len(values), seed)].mean(axis=1))


def paired_difference(ours: ArrayLike, theirs: ArrayLike, seed: int = 0) -> Estimate:
    """How much better `ours` is than `theirs` on the same items [n], item by item: the mean and its interval."""
    first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} values are not of the same items")
    return estimate(first - second, seed)


def estimate_of(statistic: Callable[[NDArray[np.intp]], float], items: int, seed: int = 0) -> Estimate:
    """A figure that is not a mean, such as a correlation: `statistic` is given the positions of the items it is of."""
    resampled: Sequence[float] = [statistic(draw) for draw in _draws(items, seed)]
    return _interval(statistic(np.arange(items)), np.asarray(resampled))


def _draws(items: int, seed: int) -> NDArray[np.intp]:
    return np.random.RandomState(seed).randint(0, items, (RESAMPLES, items)).astype(np.intp)


def _interval(value: float, resampled: NDArray[np.float64]) -> Estimate:
    tail = (100 - LEVEL) / 2
    known = resampled[np.isfinite(resampled)]  # of a few equal items there may be no correlation
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (float("nan"), float("nan"))
    return Estimate(value, float(low), float(high))
