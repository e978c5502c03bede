"""Which layers, way of reading and map make the best vectors with given weights, on a user's own text.

Without labels, what belongs together is taken from the text: a sentence and the one behind it. A kind of vectors is
worth how high it ranks the next sentence among those of all pairs (mean reciprocal rank). With pairs that people have
scored it is worth the rank correlation of its cosines with the scores. Maps are made of other sentences than those
they are measured on. Knows nothing of files or commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.errors import OptionError
from pipeline.metrics.correlation import spearman
from rwkv_runtime import profiles
from rwkv_runtime.engine import Engine
from rwkv_runtime.model import Model
from rwkv_runtime.pooling import MeanPooler
from rwkv_runtime.profiles import LinearMap, Profile

Floats = NDArray[np.float32]

PAIRS: Final = 200
SPARE: Final = 600
"""Sentences that maps are made of."""

DEPTHS: Final = (0.4, 0.6, 0.8, 1.0)
WAYS: Final = ("isolated", "eol", "echo")
DROPPED: Final = (0, 1, 3)
_FEWEST: Final = 40
_LEAST_CHARS: Final = 20


@dataclass(frozen=True)
class Sample:
    """Pairs to measure on, with scores if people gave any, and other sentences to make maps of."""

    firsts: tuple[str, ...]
    seconds: tuple[str, ...]
    scores: tuple[float, ...] | None
    spare: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A kind of vectors and what it is worth, from 0 to 100."""

    layers: tuple[int, ...]
    pooling: str
    map: str
    value: float


@dataclass(frozen=True)
class Calibration:
    """All that was tried, best first, and the profile of the best."""

    trials: tuple[Trial, ...]
    profile: Profile
    measure: str


def sampled(sentences: Sequence[str], scored: Sequence[tuple[str, str, float]] = ()) -> Sample:
    """What to measure on, out of the sentences of a corpus in their order. Raises OptionError if they are too few."""
    usable = [place for place in range(len(sentences) - 1) if _says_something(sentences[place : place + 2])]
    if len(usable) < _FEWEST:
        raise OptionError(f"{len(usable)} pairs of sentences are too few to calibrate on, {_FEWEST} are the least")
    even = usable[:: max(1, len(usable) // PAIRS)][:PAIRS]
    taken = {place + step for place in even for step in (0, 1)}
    left = [sentences[place] for place in usable if place not in taken]
    spare = left[:: max(1, len(left) // SPARE)][:SPARE] or [sentences[place] for place in even]
    if scored:
        firsts, seconds, scores = zip(*scored, strict=True)
        return Sample(firsts, seconds, scores, tuple(spare))
    return Sample(
        tuple(sentences[place] for place in even), tuple(sentences[place + 1] for place in even), None, tuple(spare)
    )


def _says_something(pair: Sequence[str]) -> bool:
    return pair[0] != pair[1] and all(len(one) >= _LEAST_CHARS for one in pair)


def calibrate(model: Model, sample: Sample, window: int = 512) -> Calibration:
    """Try every kind of vectors."""
    tried: list[tuple[Trial, LinearMap | None]] = []
    for layers in _depths(model):
        pooler = MeanPooler(model.config.n_embd, "layers", layers) if layers else "auto"
        engine = Engine(model, window=window, lanes=1, pooling=pooler)
        for way in WAYS:
            first, second, spare = (
                vectors.isolated(engine, texts, way) for texts in (sample.firsts, sample.seconds, sample.spare)
            )
            for found in _maps(model, layers, spare):
                sides = (first, second) if found is None else (found(first), found(second))
                words = "none" if found is None else found.words
                tried.append((Trial(layers, way, words, _worth(*sides, sample.scores)), found))
    tried.sort(key=lambda one: -one[0].value)
    best, found = tried[0]
    profile = Profile(model.fingerprint, best.layers, best.pooling, found)
    measure = "rank of the next sentence" if sample.scores is None else "correlation with scores"
    return Calibration(tuple(trial for trial, _ in tried), profile, measure)


def _depths(model: Model) -> list[tuple[int, ...]]:
    """The layers to try, one at a time; none stands for how the weights have it."""
    count = model.config.n_layer
    return [(), *dict.fromkeys((max(1, round(depth * count)),) for depth in DEPTHS)]


def _maps(model: Model, layers: tuple[int, ...], spare: Floats) -> Iterator[LinearMap | None]:
    yield None
    if layers or model.embedding_head is None:
        yield profiles.from_head(model.output_matrix)
    for dropped in DROPPED:
        if dropped < spare.shape[1]:
            yield profiles.from_vectors(spare, dropped)


def _worth(first: Floats, second: Floats, scores: Sequence[float] | None) -> float:
    if scores is not None:
        return 100 * spearman((first * second).sum(axis=1).astype(np.float64), np.array(scores))
    cosines = first @ second.T
    own = np.diag(cosines)[:, None]
    ranks = (cosines > own).sum(axis=1) + 1
    return float(100 * (1 / ranks).mean())


def with_best_first(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The first so many of trials in the order of their worth, and the plain one that they are to be held against."""
    plain = replace(trials[0], layers=(), pooling="isolated", map="none")
    shown = list(trials[:count])
    found = next(trial for trial in trials if replace(trial, value=plain.value) == plain)
    return shown if found in shown else [*shown, found]
