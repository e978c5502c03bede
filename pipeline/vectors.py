"""Vectors of texts that are no part of a document being read: queries, pairs to compare, probes.

Each text is read on a fork of a state, by itself, so its vector depends on model, text and that state alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.state import State


def vectors_after(engine: Engine, state: State, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read from `state` on; which stays as it is."""
    found = [vector_after(engine, state, text) for text in texts]
    return np.stack(found) if found else np.zeros((0, engine.pooler.dimensions), np.float32)


def isolated(engine: Engine, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read as if nothing stood before it."""
    return vectors_after(engine, engine.model.initial_state(), texts)


def vector_after(engine: Engine, state: State, text: str) -> NDArray[np.float32]:
    """The unit vector [dimensions] of one text of any length, read from `state` on as a sentence behind others.

    White space is collapsed and one space stands in front, as in the stream that the shipped model was trained on.
    """
    tokens = engine.model.tokenizer.encode(" " + " ".join(text.split()))
    pooler = engine.pooler
    sums, last = np.zeros((1, pooler.feature_size), np.float32), np.zeros((1, pooler.feature_size), np.float32)
    for begin in range(0, len(tokens), engine.window):
        fed = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, True)])[0]
        assert fed.features is not None  # they were asked for
        state = fed.state
        sums += fed.features.sum(axis=0, dtype=np.float32)
        last[0] = fed.features[-1]
    vector: NDArray[np.float32] = pooler.finish(sums, last, np.array([len(tokens)], np.int64))[0]
    return vector


def vectors_together(engine: Engine, state: State, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
    """Unit vectors [n, dimensions] of texts that follow each other, read once from `state` on, and the tokens read."""
    encoded = [engine.model.tokenizer.encode(" " + " ".join(text.split())) for text in texts]
    tokens = [token for one in encoded for token in one]
    owner = np.repeat(np.arange(len(texts)), [len(one) for one in encoded])
    pooler = engine.pooler
    sums = np.zeros((len(texts), pooler.feature_size), np.float32)
    last = np.zeros_like(sums)
    for begin in range(0, len(tokens), engine.window):
        fed = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, True)])[0]
        assert fed.features is not None  # they were asked for
        state = fed.state
        owners = owner[begin : begin + engine.window]
        for text in np.unique(owners):
            mine = fed.features[owners == text]
            sums[text] += mine.sum(axis=0, dtype=np.float32)
            last[text] = mine[-1]
    return pooler.finish(sums, last, np.array([len(one) for one in encoded], np.int64)), len(tokens)


def state_behind(engine: Engine, tokens: Sequence[int]) -> State:
    """The state after some tokens were read from the beginning."""
    state = engine.model.initial_state()
    for begin in range(0, len(tokens), engine.window):
        state = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, False)])[0].state
    return state
