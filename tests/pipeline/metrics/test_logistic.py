"""Logistic regression: the weights that another solver finds, and each item as heavy as it is said to be."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from pipeline.metrics.logistic import logistic


def items(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    features = np.concatenate([np.ones((60, 1)), draw.standard_normal((60, 3))], axis=1)
    right = (features @ [0.5, 2.0, -1.0, 0.0] + draw.logistic(size=60) > 0).astype(np.float64)
    return features, right, draw.integers(1, 4, 60).astype(np.float64)


def test_the_weights_are_those_of_the_smallest_penalised_loss():
    features, right, weights = items(0)

    def loss(found: np.ndarray) -> float:
        scores = features @ found
        return float(weights @ (np.logaddexp(0, scores) - right * scores) + found[1:] @ found[1:] / 2)

    wanted = minimize(loss, np.zeros(4), tol=1e-10).x
    np.testing.assert_allclose(logistic(features, right, weights), wanted, atol=1e-4)


def test_an_item_that_weighs_double_counts_as_two():
    features, right, weights = items(1)
    repeated = np.repeat(np.arange(60), weights.astype(int))
    np.testing.assert_allclose(
        logistic(features, right, weights), logistic(features[repeated], right[repeated], np.ones(len(repeated)))
    )
