"""Feeds token windows through a model at fixed shapes, so that no result depends on what else is being read.

A feed of n tokens is computed as at the smallest width of 64, 128, 256, ... up to the window that holds it: a function
of its own length, whatever a model pads it to. Knows nothing of documents; which tokens make a feed is the caller's
business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rwkv_runtime import pooling as poolings
from rwkv_runtime.errors import ShapeError
from rwkv_runtime.model import Model, Output
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State
from rwkv_runtime.token_ids import token_ids

NARROWEST = 64


@dataclass(frozen=True)
class Feed:
    """Tokens to read from a state on, and whether their features are wanted.

    `followers` are the tokens whose surprise is wanted: that behind `tokens[first_scored]`, behind the next and so on,
    for some of them or for none. `before` are the tokens that were read last, as many as the pooler's words may reach
    back.
    """

    tokens: tuple[int, ...]
    state: State
    features: bool
    followers: tuple[int, ...] = ()
    first_scored: int = 0
    before: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fed:
    """The state after a feed and, where wanted, a row of features per token [T, F] and nats per follower [n]."""

    state: State
    features: NDArray[np.float32] | None
    surprise: NDArray[np.float32] | None = None


class Engine:
    """One model with a window, a number of lanes and a pooler."""

    def __init__(self, model: Model, *, window: int, lanes: int, pooling: str | SpanPooler = "auto") -> None:
        """`pooling` is a pooler or its name: one of `pooling.choose`, or that of a head of EmbeddingRWKV (`eos_retr`).

        Raises ShapeError unless `window` is a power of two from 64 and `lanes` at least 1, or for a name.
        """
        if window < NARROWEST or window & (window - 1) or lanes < 1:
            raise ShapeError(f"window {window} must be a power of two from {NARROWEST} and lanes {lanes} at least 1")
        self.model = model
        self.window = window
        self.lanes = lanes
        self.pooler = pooling if not isinstance(pooling, str) else _pooler(pooling, model)

    def feed(self, feeds: Sequence[Feed]) -> list[Fed]:
        """Read each feed from its own state; the results are in the order of the feeds.

        One result never depends on the other feeds, bit for bit. Raises ShapeError for a feed longer than the window
        or with more followers than tokens.
        """
        feeds = [self._plain(feed) for feed in feeds]
        fed: dict[int, Fed] = {}
        for width in sorted({self._width(feed) for feed in feeds}):
            group = [place for place, feed in enumerate(feeds) if self._width(feed) == width]
            for begin in range(0, len(group), self.lanes):
                together = group[begin : begin + self.lanes]
                fed.update(zip(together, self._fed([feeds[place] for place in together], width), strict=True))
        return [fed[place] for place in range(len(feeds))]

    def numeric_fingerprint(self) -> str:
        """SHA-256 (hex) of the bits that a fixed probe gives on this machine, with the window.

        Two engines with the same one give the same bits for the same feeds: it covers the model, the libraries, the
        processor and the number of threads. The probe is two windows, so its second starts from a full state.
        """
        ids = np.random.RandomState(7).randint(0, self.model.config.vocab_size, 2 * self.window).tolist()
        state, digest = self.model.initial_state(), hashlib.sha256()
        for begin in (0, self.window):
            fed = self.feed([Feed(tuple(ids[begin : begin + self.window]), state, True)])[0]
            state = fed.state
            digest.update(b"" if fed.features is None else fed.features.tobytes())
        digest.update(state.to_bytes())
        digest.update(f"window {self.window}".encode())
        return digest.hexdigest()

    def _plain(self, feed: Feed) -> Feed:
        """A feed whose tokens are tuples; what else came as tokens is looked at here, tuples when they are read."""
        if type(feed.tokens) is tuple and type(feed.followers) is tuple and type(feed.before) is tuple:
            return feed
        rows = self.model.config.vocab_size
        tokens, followers, before = (tuple(token_ids(ids, rows)) for ids in (feed.tokens, feed.followers, feed.before))
        return replace(feed, tokens=tokens, followers=followers, before=before)

    def _width(self, feed: Feed) -> int:
        if len(feed.tokens) > self.window:
            raise ShapeError(f"a feed of {len(feed.tokens)} tokens is longer than the window of {self.window}; cut it")
        if feed.first_scored < 0 or feed.first_scored + len(feed.followers) > len(feed.tokens):
            raise ShapeError(
                f"{len(feed.followers)} tokens cannot each follow one of {len(feed.tokens)} from number "
                f"{feed.first_scored} on; pass fewer"
            )
        return max(NARROWEST, 1 << (len(feed.tokens) - 1).bit_length()) if feed.tokens else NARROWEST

    def _fed(self, feeds: Sequence[Feed], width: int) -> list[Fed]:
        """Read up to `lanes` feeds at one width."""
        read = [feed for feed in feeds if _needs_hidden(feed)]
        advanced = [feed for feed in feeds if not _needs_hidden(feed)]
        outputs = iter(self.model.forward_padded(_items(read), self.lanes, width, self.pooler.layers))
        states = iter(self.model.advance_padded(_items(advanced), self.lanes, width))
        return [
            self._looked_at(feed, next(outputs)) if _needs_hidden(feed) else Fed(next(states), None) for feed in feeds
        ]

    def _looked_at(self, feed: Feed, output: Output) -> Fed:
        features = self.pooler.features(output, feed.tokens, feed.before) if feed.features else None
        if not feed.followers:
            return Fed(output.state, features)
        first = feed.first_scored
        nats = self.model.surprises(output.hidden[first : first + len(feed.followers)], feed.followers)
        return Fed(output.state, features, nats.numpy())


def _pooler(name: str, model: Model) -> SpanPooler:
    head = next((head for head in model.eos_heads.values() if head.name == name), None)
    if head is None and name.startswith("eos_"):
        raise ShapeError(f"pooling {name!r} needs a head of EmbeddingRWKV, which these weights lack; use auto or mean")
    return head or poolings.choose(name, model.embedding_head, model.config.n_embd)


def _needs_hidden(feed: Feed) -> bool:
    return feed.features or bool(feed.followers)


def _items(feeds: Sequence[Feed]) -> list[tuple[Sequence[int], State]]:
    return [(feed.tokens, feed.state) for feed in feeds]
