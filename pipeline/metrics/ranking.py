"""How good a ranking is. Knows nothing of what was ranked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TypeVar

T = TypeVar("T")


def ndcg(ranked: Sequence[T], relevant: Collection[T], depth: int = 10) -> float:
    """Discounted gain of the first `depth` places over the best possible, each item relevant or not (Järvelin 2002)."""
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:depth]) if item in relevant)
    most = sum(1 / math.log2(place + 2) for place in range(min(depth, len(relevant))))
    return gain / most if most else float("nan")


def hit(ranked: Sequence[T], right: Collection[T], depth: int) -> float:
    """1 if something right is among the first `depth` places, else 0."""
    return float(any(item in right for item in ranked[:depth]))


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error: how far confidence is from the share that is right, bin by bin (Guo, 2017)."""
    total = 0.0
    for number in range(bins):
        members = [
            (sure, ok) for sure, ok in zip(confidences, right, strict=True) if min(int(sure * bins), bins - 1) == number
        ]
        if members:
            gap = sum(sure for sure, _ in members) - sum(ok for _, ok in members)
            total += abs(gap) / len(confidences)
    return total
