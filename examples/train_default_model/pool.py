"""Everything that training reads, in memory: documents and single sentences as tokens, and the vectors to be learned.

Knows nothing of streams, models or losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.sentences import plain
from examples.train_default_model.shards import Floats, Sentence, Tokens, read_shard
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

NO_TARGET = -1


@dataclass(frozen=True)
class Piece:
    """A sentence of a document. `target` and `group_target` are rows of the pool's targets, or NO_TARGET."""

    tokens: Tokens
    target: int
    is_heading: bool
    salience: float
    group_length: int
    group_target: int


@dataclass(frozen=True)
class Pool:
    """`alone` are sentences on one line with a blank in front: (tokens, row of `targets` [n, 384] of unit length)."""

    documents: tuple[tuple[Piece, ...], ...]
    alone: tuple[tuple[Tokens, int], ...]
    targets: NDArray[np.float16]


def read_pool(
    shards: Iterable[Path], tokenizer: BpeTokenizer, rotation: Floats, written_with: BpeTokenizer | None = None
) -> Pool:
    """Read shards; targets are turned into the rotated space.

    Sentences that were written with the tokens of another tokenizer are cut into those of this one.
    """
    targets: list[NDArray[np.float16]] = []
    documents: list[tuple[Piece, ...]] = []
    alone: list[tuple[Tokens, int]] = []

    def row(vector: Floats | None) -> int:
        if vector is None:
            return NO_TARGET
        targets.append((vector @ rotation).astype(np.float16))
        return len(targets) - 1

    for document in (document for path in shards for document in read_shard(path)):
        if written_with is not None:
            document = [_with_tokens_of(one, written_with, tokenizer) for one in document]
        pieces = tuple(_piece(one, row(one.target), row(one.group_target)) for one in document)
        documents.append(pieces)
        alone += [(_alone(piece, tokenizer), piece.target) for piece in pieces if piece.target != NO_TARGET]
        alone += _groups_alone(pieces, tokenizer)
    rows = np.stack(targets) if targets else np.empty((0, rotation.shape[1]), np.float16)
    return Pool(tuple(documents), tuple(alone), rows)


def joined_pools(first: Pool, second: Pool) -> Pool:
    """All of both; the targets of the second stand behind those of the first."""
    begin = len(first.targets)

    def shifted(row: int) -> int:
        return row if row == NO_TARGET else row + begin

    documents = tuple(
        tuple(replace(one, target=shifted(one.target), group_target=shifted(one.group_target)) for one in document)
        for document in second.documents
    )
    alone = tuple((tokens, row + begin) for tokens, row in second.alone)
    targets = np.concatenate([first.targets, second.targets])
    return Pool(first.documents + documents, first.alone + alone, targets)


def _with_tokens_of(sentence: Sentence, before: BpeTokenizer, after: BpeTokenizer) -> Sentence:
    text = before.decode(sentence.tokens.tolist())
    return replace(sentence, tokens=np.array(after.encode(text), np.uint16))


def _piece(sentence: Sentence, target: int, group_target: int) -> Piece:
    return Piece(sentence.tokens, target, sentence.is_heading, sentence.salience, sentence.group_length, group_target)


def _alone(piece: Piece, tokenizer: BpeTokenizer) -> Tokens:
    text = plain(tokenizer.decode(piece.tokens.tolist()))
    return np.array(tokenizer.encode(" " + text), np.uint16)


def _groups_alone(pieces: Sequence[Piece], tokenizer: BpeTokenizer) -> list[tuple[Tokens, int]]:
    """The groups of sentences of a document as texts of their own."""
    return [
        (
            np.concatenate([_alone(other, tokenizer) for other in pieces[place : place + piece.group_length]]),
            piece.group_target,
        )
        for place, piece in enumerate(pieces)
        if piece.group_target != NO_TARGET
    ]
