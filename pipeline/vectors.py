"""Vectors of texts that are no part of a document being read: queries, pairs to compare, probes.

Each text is read on a fork of a state, by itself, so its vector depends on model, text and that state alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State
from rwkv_runtime.tokenizers import Tokenizer


@dataclass(frozen=True)
class Aside:
    """What texts beside a document are read with: from `anchor` on, in feeds of up to `window` tokens."""

    tokenizer: Tokenizer
    pooler: SpanPooler
    window: int
    anchor: State

    def vector(self, text: str) -> Generator[Feed, Fed, NDArray[np.float32]]:
        """The unit vector [dimensions] of one text of any length, read as a sentence behind others.

        Yields what must be computed. White space is collapsed and one space stands in front, as in the stream that
        the shipped model was trained on.
        """
        tokens, state, size = self.tokenizer.encode(" " + " ".join(text.split())), self.anchor, self.pooler.feature_size
        sums, last = np.zeros((1, size), np.float32), np.zeros((1, size), np.float32)
        for begin in range(0, len(tokens), self.window):
            fed = yield Feed(tuple(tokens[begin : begin + self.window]), state, True)
            assert fed.features is not None  # they were asked for
            state = fed.state
            sums += fed.features.sum(axis=0, dtype=np.float32)
            last[0] = fed.features[-1]
        found: NDArray[np.float32] = self.pooler.finish(sums, last, np.array([len(tokens)], np.int64))[0]
        return found

    def vectors(self, texts: Sequence[str]) -> Generator[Feed, Fed, NDArray[np.float32]]:
        """Unit vectors [n, dimensions] of texts, each read from the anchor on."""
        found = np.zeros((len(texts), self.pooler.dimensions), np.float32)
        for place, text in enumerate(texts):
            found[place] = yield from self.vector(text)
        return found


def vectors_after(engine: Engine, state: State, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read from `state` on; which stays as it is."""
    found = [vector_after(engine, state, text) for text in texts]
    return np.stack(found) if found else np.zeros((0, engine.pooler.dimensions), np.float32)


def isolated(engine: Engine, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of texts, each read as if nothing stood before it."""
    return vectors_after(engine, engine.model.initial_state(), texts)


def vector_after(engine: Engine, state: State, text: str) -> NDArray[np.float32]:
    """The unit vector [dimensions] of one text of any length, read from `state` on; see `Aside.vector`."""
    steps = Aside(engine.model.tokenizer, engine.pooler, engine.window, state).vector(text)
    try:
        feed = next(steps)
        while True:
            feed = steps.send(engine.feed([feed])[0])
    except StopIteration as stop:
        return cast("NDArray[np.float32]", stop.value)


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
