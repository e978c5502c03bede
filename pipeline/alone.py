"""Texts that are read by themselves, beside a document: how each becomes one vector, whatever stood around it.

A text comes sentence by sentence, is read from an anchor state on, and becomes a vector when it is closed. A vector
depends on the model, the way of reading, the sentences and the anchor alone. Memory is bounded: some ways read on as
sentences come, the others must know the whole text and hold its tokens. Knows nothing of documents or tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OptionError
from rwkv_runtime.engine import Fed, Feed
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State
from rwkv_runtime.tokenizers import Tokenizer
from rwkv_runtime.words import REACH

Floats: TypeAlias = NDArray[np.float32]
Laid: TypeAlias = "list[tuple[int, bool]]"
"""Tokens to be read, and whether each is pooled."""

READOUT: Final = ' This text means in one word: "'
"""What `eol` puts behind a text: its last hidden state then says what the text means (PromptEOL)."""

EOS: Final = 65535
"""The token that EmbeddingRWKV reads its vectors at."""

EOS_CHUNK: Final = 512
EOS_CONTEXT: Final = 2048
EOS_LONGEST: Final = 8 * EOS_CONTEXT
"""Tokens of a text that EmbeddingRWKV reads; what is behind them is left out, as in its own evaluation."""

_ALIGNED: Final = 16
_ALIGNMENT: Final = 261


@dataclass(frozen=True)
class Way:
    """A way to read a text.

    One that `streams` reads on as sentences come: their tokens, pooled or not, and behind them `tail`, the last of
    which is pooled. The others lay out the tokens of the whole text with `whole`, of which the first `longest` are
    held; None stands for all of them, so that only texts of a bounded length can be read in this way. `lead` stands
    in front of the first sentence.
    """

    name: str
    pools_text: bool = True
    tail: tuple[int, ...] = ()
    whole: Callable[[Sequence[int]], Laid] | None = None
    longest: int | None = None
    lead: str = " "

    @property
    def streams(self) -> bool:
        return self.whole is None

    @property
    def takes_any_length(self) -> bool:
        """Whether texts of any length are read in bounded memory."""
        return self.streams or self.longest is not None


def way(name: str, tokenizer: Tokenizer, vocabulary: int) -> Way:
    """The way of a name, for a model with so many embedding rows. Raises OptionError if there is none for it."""
    if name == "isolated":
        return Way(name)
    if name == "eol":
        return Way(name, pools_text=False, tail=tuple(tokenizer.encode(READOUT)))
    if name == "echo":
        return Way(name, whole=_echoed)
    if name == "multi-eos":
        if vocabulary <= EOS:
            raise OptionError(f"pooling multi-eos reads token {EOS}, but the model has {vocabulary:,}; use another")
        return Way(name, whole=laid_with_eos, longest=EOS_LONGEST, lead="")
    raise OptionError(f"there is no pooling {name!r}; use isolated, eol, echo or multi-eos")


def _echoed(tokens: Sequence[int]) -> Laid:
    """The text twice; the second copy is pooled, whose every token has all of the text behind it."""
    return [(token, False) for token in tokens] + [(token, True) for token in tokens]


def laid_with_eos(tokens: Sequence[int]) -> Laid:
    """A text of at least one token as EmbeddingRWKV reads it, alone: several EOS tokens, at which it is pooled.

    Short texts are repeated, longer ones cut into as many parts as there are EOS tokens, very long ones first into
    contexts; what is left of a multiple of 16 tokens stands in front as line ends.
    Source: howard-hou/EmbeddingRWKV, embedding/eval/custom_embedding_model.py and src/model.py (commit 0880349).
    """
    count, parts = len(tokens), EOS_CONTEXT // EOS_CHUNK
    if count < EOS_CHUNK:
        laid = [token for _ in range(parts) for token in (*tokens, EOS)]
    elif count <= EOS_CONTEXT - parts:
        laid = _parted(tokens, parts)
    else:
        contexts = _slices(tokens, math.ceil(count / EOS_CONTEXT))
        laid = [token for context in contexts for token in _parted(context, parts)]
    padding = [_ALIGNMENT] * (-len(laid) % _ALIGNED)
    return [(token, False) for token in padding] + [(token, token == EOS) for token in laid]


def _parted(tokens: Sequence[int], parts: int) -> list[int]:
    return [token for part in _slices(tokens, parts) for token in (*part, EOS)]


def _slices(tokens: Sequence[int], count: int) -> list[Sequence[int]]:
    size = max(1, math.ceil(len(tokens) / count))
    return [tokens[place * size : (place + 1) * size] for place in range(count)]


@dataclass(frozen=True)
class OpenText:
    """How far a text has been read: the state behind it (None: the anchor) and what was pooled.

    `waiting` are tokens that do not fill a feed yet, `held` those of a text that must be known whole, `recent` those
    that were read last, pooled or not.
    """

    sums: Floats
    last: Floats
    state: State | None = None
    count: int = 0
    waiting: tuple[tuple[int, bool], ...] = ()
    held: tuple[int, ...] = ()
    begun: bool = False
    recent: tuple[int, ...] = ()

    def as_values(self) -> dict[str, object]:
        """For a checkpoint."""
        return {
            "sums": self.sums,
            "last": self.last,
            "state": None if self.state is None else self.state.to_bytes(),
            "count": self.count,
            "waiting": [list(one) for one in self.waiting],
            "held": list(self.held),
            "begun": self.begun,
            "recent": list(self.recent),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any], state_from_bytes: Callable[[bytes], State]) -> OpenText:
        """What `as_values` gave. Raises StateError."""
        state = values["state"]
        return cls(
            values["sums"],
            values["last"],
            None if state is None else state_from_bytes(state),
            values["count"],
            tuple((token, pooled) for token, pooled in values["waiting"]),
            tuple(values["held"]),
            values["begun"],
            tuple(values.get("recent", ())),
        )


@dataclass(frozen=True)
class Alone:
    """What texts are read with, in feeds of up to `window` tokens, from `anchor` on."""

    tokenizer: Tokenizer
    pooler: SpanPooler
    window: int
    anchor: State
    ways: Mapping[str, Way] = field(default_factory=dict)

    def way(self, name: str) -> Way:
        return self.ways[name]

    def opened(self) -> OpenText:
        """A text of which nothing has come yet."""
        size = self.pooler.feature_size
        return OpenText(np.zeros((1, size), np.float32), np.zeros((1, size), np.float32))

    def with_sentence(self, text: OpenText, sentence: str, way: Way) -> Generator[Feed, Fed, OpenText]:
        """The text with another sentence, whose white space is collapsed; one space stands between two.

        Yields what must be computed.
        """
        lead = " " if text.begun else way.lead
        tokens = self.tokenizer.encode(lead + " ".join(sentence.split()))
        if not way.streams:
            held = (*text.held, *tokens)[: way.longest]
            return replace(text, held=held, begun=True)
        waiting = (*text.waiting, *((token, way.pools_text) for token in tokens))
        return (yield from self._read(replace(text, waiting=waiting, begun=True), whole=False))

    def closed(self, text: OpenText, way: Way) -> Generator[Feed, Fed, Floats]:
        """The unit vector [dimensions] of a text of at least one sentence. Yields what must be computed."""
        more = way.whole(text.held) if way.whole else [(token, False) for token in way.tail]
        if way.tail:
            more[-1] = (way.tail[-1], True)
        read = yield from self._read(replace(text, waiting=(*text.waiting, *more)), whole=True)
        found: Floats = self.pooler.finish(read.sums, read.last, np.array([read.count], np.int64))[0]
        return found

    def vector(self, sentences: Sequence[str], way: Way) -> Generator[Feed, Fed, Floats]:
        """The unit vector [dimensions] of some sentences that make one text."""
        text = self.opened()
        for sentence in sentences:
            text = yield from self.with_sentence(text, sentence, way)
        return (yield from self.closed(text, way))

    def _read(self, text: OpenText, whole: bool) -> Generator[Feed, Fed, OpenText]:
        """Read full windows of what waits, and at the end all of it."""
        waiting = text.waiting
        while len(waiting) >= self.window or (whole and waiting):
            now, waiting = waiting[: self.window], waiting[self.window :]
            pooled = np.array([flag for _, flag in now])
            state = text.state or self.anchor
            tokens = tuple(token for token, _ in now)
            fed = yield Feed(tokens, state, bool(pooled.any()), before=text.recent)
            text = replace(text, state=fed.state, recent=(*text.recent, *tokens)[-REACH:])
            if fed.features is not None:
                rows = fed.features[pooled]
                sums = text.sums + rows.sum(axis=0, dtype=np.float32)
                text = replace(text, sums=sums, last=rows[-1:], count=text.count + len(rows))
        return replace(text, waiting=waiting)
