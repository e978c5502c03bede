"""Endless streams of tokens for the rows of a batch, with the spans whose vectors are learned.

Three kinds of row: `documents` in the order of their text, whose state is often carried from one to the next; `mixed`,
unrelated sentences without a reset between them, so that a vector must not depend on what was read before; `alone`, a
reset before every sentence. A stream's place is a plain value, so that training resumes exactly. Knows nothing of
models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.pool import NO_TARGET, Piece, Pool

KINDS = ("documents", "mixed", "alone")
UNKNOWN = -1
RESET_AT_DOCUMENT = 0.2
RESET_IN_MIXED = 0.04
WITHOUT_HEADINGS = 0.5


@dataclass(frozen=True)
class Span:
    """Half-open [begin, end) in a stream, whose vector should be row `target`.

    `opens` is 1 where a section begins with it, 0 where not, UNKNOWN where the text still shows the heading.
    `follows` says that the span before it in the stream is the sentence before it.
    """

    begin: int
    end: int
    target: int
    opens: int = UNKNOWN
    salience: float = float("nan")
    follows: bool = False


@dataclass(frozen=True)
class Batch:
    """[B, T] arrays and the spans that end in them. `keep` is 0 at the first token of a context.

    `following` are the tokens to be predicted, `predictable` is 0 where the next token starts a new context. `spans`
    [n, 3] are row, begin, end; `labels` and the others [n] belong to them.
    """

    tokens: NDArray[np.int64]
    keep: NDArray[np.float32]
    following: NDArray[np.int64]
    predictable: NDArray[np.bool_]
    spans: NDArray[np.int64]
    targets: NDArray[np.int64]
    opens: NDArray[np.int64]
    salience: NDArray[np.float32]
    follows: NDArray[np.bool_]


@dataclass
class Stream:
    """One row: what is queued, and the random choices that go on from there."""

    pool: Pool
    kind: str
    random: random.Random
    tokens: list[int] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def take(self, length: int) -> tuple[list[int], list[int], list[Span]]:
        """The next `length` tokens and one more, their `keep`, and the spans that end before the extra one.

        A span that began in an earlier stretch is left out: its first tokens are no longer there.
        """
        while len(self.tokens) <= length:
            self._queue()
        ended = [span for span in self.spans if span.end <= length]
        tokens, keep = self.tokens[: length + 1], self.keep[: length + 1]
        self.spans = [
            replace(span, begin=span.begin - length, end=span.end - length) for span in self.spans if span.end > length
        ]
        self.tokens, self.keep = self.tokens[length:], self.keep[length:]
        return tokens, keep, [span for span in ended if span.begin >= 0]

    def snapshot(self) -> dict[str, Any]:
        """The stream's place as plain values."""
        spans = [vars(span) for span in self.spans]
        return {"random": self.random.getstate(), "tokens": self.tokens, "keep": self.keep, "spans": spans}

    def restore(self, place: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.random.setstate(place["random"])
        self.tokens, self.keep = list(place["tokens"]), list(place["keep"])
        self.spans = [Span(**span) for span in place["spans"]]

    def _queue(self) -> None:
        if self.kind == "documents":
            self._queue_document()
        else:
            tokens, target = self.pool.alone[self.random.randrange(len(self.pool.alone))]
            reset = self.kind == "alone" or self.random.random() < RESET_IN_MIXED
            begin = self._append(tokens.tolist(), reset)
            self.spans.append(Span(begin, len(self.tokens), target))

    def _queue_document(self) -> None:
        document = self.pool.documents[self.random.randrange(len(self.pool.documents))]
        hides_headings = self.random.random() < WITHOUT_HEADINGS
        reset = self.random.random() < RESET_AT_DOCUMENT
        places: list[tuple[int, int]] = []
        opens, follows = 0, False
        for piece in document:
            if hides_headings and piece.is_heading:
                places.append((len(self.tokens), len(self.tokens)))
                opens = 1
                continue
            begin = self._append(piece.tokens.tolist(), reset)
            reset = False
            places.append((begin, len(self.tokens)))
            if piece.target != NO_TARGET:
                label = opens if hides_headings else UNKNOWN
                self.spans.append(Span(*places[-1], piece.target, label, piece.salience, follows))
            opens, follows = 0, piece.target != NO_TARGET
        self.spans += _group_spans(document, places, hides_headings)
        self.spans.sort(key=lambda span: span.end)

    def _append(self, tokens: list[int], reset: bool) -> int:
        """Queue tokens; returns where they begin."""
        begin = len(self.tokens)
        self.tokens += tokens
        self.keep += [0 if reset else 1] + [1] * (len(tokens) - 1)
        return begin


def _group_spans(document: Sequence[Piece], places: list[tuple[int, int]], hides_headings: bool) -> list[Span]:
    """The spans of groups of sentences; a group with a heading in it has its vector only where headings are shown."""
    found = []
    for place, piece in enumerate(document):
        members = document[place : place + piece.group_length]
        if piece.group_target != NO_TARGET and not (hides_headings and any(one.is_heading for one in members)):
            found.append(Span(places[place][0], places[place + len(members) - 1][1], piece.group_target))
    return found


def make_streams(pool: Pool, rows: tuple[int, int, int], seed: int) -> list[Stream]:
    """`rows` streams of each kind."""
    kinds = [kind for kind, count in zip(KINDS, rows, strict=True) for _ in range(count)]
    return [Stream(pool, kind, random.Random(f"{seed} {number}")) for number, kind in enumerate(kinds)]


def next_batch(streams: Sequence[Stream], length: int) -> Batch:
    """The next `length` tokens of every stream."""
    tokens, keep, rows, spans = [], [], [], []
    for row, stream in enumerate(streams):
        read, kept, ended = stream.take(length)
        tokens.append(read)
        keep.append(kept)
        rows += [row] * len(ended)
        spans += ended
    read_tokens, kept_tokens = np.array(tokens, np.int64), np.array(keep, np.float32)
    places = [(row, span.begin, span.end) for row, span in zip(rows, spans, strict=True)]
    return Batch(
        tokens=read_tokens[:, :-1],
        keep=kept_tokens[:, :-1],
        following=read_tokens[:, 1:],
        predictable=kept_tokens[:, 1:] > 0,
        spans=np.array(places, np.int64).reshape(-1, 3),
        targets=np.array([span.target for span in spans], np.int64),
        opens=np.array([span.opens for span in spans], np.int64),
        salience=np.array([span.salience for span in spans], np.float32),
        follows=np.array([span.follows for span in spans], np.bool_),
    )
