"""Vectors of texts that are no part of a document being read: queries, pairs to compare, probes.

Each text is read on a fork of a state, by itself, so its vector depends on model, text and that state alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.alone import Alone, way
from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.state import State
from rwkv_runtime.words import REACH

_Result = TypeVar("_Result")

ISOLATED: Final = "isolated"
"""The way to read a text by itself that costs least: once, all of it pooled."""


def alone(engine: Engine, anchor: State | None = None, ways: Sequence[str] = (ISOLATED,)) -> Alone:
    """What texts are read with from `anchor` on, by default from the beginning. Raises OptionError for a way."""
    tokenizer, rows = engine.model.tokenizer, engine.model.config.vocab_size
    known = {name: way(name, tokenizer, rows) for name in ways}
    return Alone(tokenizer, engine.pooler, engine.window, anchor or engine.model.initial_state(), known)


def vectors_after(engine: Engine, state: State, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read from `state` on; which stays as it is."""
    found = [vector_after(engine, state, text) for text in texts]
    return np.stack(found) if found else np.zeros((0, engine.pooler.dimensions), np.float32)


def isolated(engine: Engine, texts: Sequence[str], how: str = ISOLATED) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read as if nothing stood before it, in one of the ways of `alone`."""
    reader = alone(engine, ways=(how,))
    found = [computed(engine, reader.vector([text], reader.way(how))) for text in texts]
    return np.stack(found) if found else np.zeros((0, engine.pooler.dimensions), np.float32)


def vector_after(engine: Engine, state: State, text: str) -> NDArray[np.float32]:
    """The unit vector [dimensions] of one text of any length, read from `state` on."""
    reader = alone(engine, state)
    return computed(engine, reader.vector([text], reader.way(ISOLATED)))


def computed(engine: Engine, steps: Generator[Feed, Fed, _Result]) -> _Result:
    """What comes of steps that ask for nothing but feeds."""
    try:
        feed = next(steps)
        while True:
            feed = steps.send(engine.feed([feed])[0])
    except StopIteration as stop:
        return cast("_Result", stop.value)


@dataclass(frozen=True)
class Together:
    """Texts that were read one behind the other: the features of all their tokens [T, F], which text each token is of
    [T], and the texts' unit vectors [n, dimensions]."""

    features: NDArray[np.float32]
    owner: NDArray[np.int64]
    vectors: NDArray[np.float32]


def read_together(engine: Engine, state: State, texts: Sequence[str]) -> Together:
    """Texts that follow each other, read once from `state` on. All their features are held: they are to be few."""
    encoded = [engine.model.tokenizer.encode(" " + " ".join(text.split())) for text in texts]
    tokens = [token for one in encoded for token in one]
    counts = np.array([len(one) for one in encoded], np.int64)
    owner = np.repeat(np.arange(len(texts)), counts)
    read = []
    for begin in range(0, len(tokens), engine.window):
        now, before = tuple(tokens[begin : begin + engine.window]), tuple(tokens[max(begin - REACH, 0) : begin])
        fed = engine.feed([Feed(now, state, True, before=before)])[0]
        assert fed.features is not None  # they were asked for
        state = fed.state
        read.append(fed.features)
    features = np.concatenate(read)
    ends = np.cumsum(counts)
    sums = np.stack([features[end - count : end].sum(axis=0) for end, count in zip(ends, counts, strict=True)])
    return Together(features, owner, engine.pooler.finish(sums, features[ends - 1], counts))


def state_behind(engine: Engine, tokens: Sequence[int]) -> State:
    """The state after some tokens were read from the beginning."""
    state = engine.model.initial_state()
    for begin in range(0, len(tokens), engine.window):
        state = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, False)])[0].state
    return state
