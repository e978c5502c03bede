"""Logistic regression: the weights by which features tell what is right from what is not.

Knows nothing of what the features are of.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RIDGE: Final = 1.0
_NO_RIDGE: Final = 1e-6  # not 0, so that the equations can be solved whatever the first feature is
_ROUNDS: Final = 30


def logistic(features: Floats, right: Floats, weights: Floats) -> Floats:
    """The weights [m] of features [n, m] by Newton's method, with a ridge on all but the first of them.

    `right` [n] is 1 or 0; each of the n counts as much as `weights` [n] says.
    """
    ridge = np.diag([_NO_RIDGE] + [_RIDGE] * (features.shape[1] - 1))
    found: Floats = np.zeros(features.shape[1])
    for _ in range(_ROUNDS):
        sure = 1 / (1 + np.exp(-np.clip(features @ found, -30, 30)))
        slope = features.T @ (weights * (sure - right)) + ridge @ found
        curvature = (features * (weights * sure * (1 - sure))[:, None]).T @ features + ridge
        found = found - np.asarray(np.linalg.solve(curvature, slope), np.float64)
    return found
