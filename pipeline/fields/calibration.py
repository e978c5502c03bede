"""From scores to how often values of such a score are right. Knows nothing of what was scored.

Piecewise linear through measured points: of rules on one half of the contracts of CUAD (`unspool eval cuad-fields`
gives the error on the other), of clauses with cues on contracts of its train split that their words were not taken from
(`unspool eval cuad-clauses`); of other clauses a guess.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

RULE_POINTS: Final = ((0.0, 0.05), (0.15, 0.15), (0.3, 0.45), (0.45, 0.75), (0.6, 0.8), (0.9, 0.83))
CUED_POINTS: Final = (
    (0.0, 0.0), (0.05, 0.01), (0.1, 0.03), (0.14, 0.08), (0.18, 0.15), (0.22, 0.28), (0.27, 0.48), (0.34, 0.7),
    (0.41, 0.82), (0.57, 0.9),
)  # fmt: skip
RANKED_POINTS: Final = ((0.0, 0.02), (0.5, 0.5), (1.0, 0.9))


def confidence(score: float, points: Sequence[tuple[float, float]] = RULE_POINTS) -> float:
    """The share of values of this score that are right, by the points measured."""
    place = bisect_right([point[0] for point in points], score)
    if place == 0:
        return points[0][1]
    if place == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    return y0 + (y1 - y0) * (score - x0) / (x1 - x0)
