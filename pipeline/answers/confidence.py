"""From what speaks for a sentence to how often such a sentence answers the question: a logistic function.

Its weights are in the file beside this module, which `tests/bench/fit_answers.py` makes from questions on texts of
train splits. Knows nothing of texts.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.answers.evidence import FEATURES

FILE: Final = Path(__file__).with_name("confidence.json")
VERSION: Final = 1


@dataclass(frozen=True)
class Thresholds:
    """From which confidence on a question is answered, and from which on it is not said to be absent."""

    answered: float
    unsure: float


def score(features: NDArray[np.float64]) -> float:
    """What features [features] come to: any number, higher for likelier answers."""
    return float(features @ _weights())


def confidence(score: float) -> float:
    """The share of sentences with this score that answer."""
    return 1 / (1 + math.exp(-max(min(score, 30.0), -30.0)))


def thresholds() -> Thresholds:
    """Those that were chosen with the weights."""
    found = _fitted()["thresholds"]
    return Thresholds(found["answered"], found["unsure"])


@cache
def _weights() -> NDArray[np.float64]:
    found = _fitted()["weights"]
    return np.array([found[name] for name in FEATURES], np.float64)


@cache
def _fitted() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    if found["version"] != VERSION or tuple(found["weights"]) != FEATURES:
        raise ValueError(f"{FILE.name} is of other features; make it anew with tests/bench/fit_answers.py")
    return found
