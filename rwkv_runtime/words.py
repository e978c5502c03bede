"""Words of several tokens that have a vector of their own: which word ends at which token.

Words are kept as a trie of their tokens from the last to the first, an array per depth, so that all tokens of a window
are looked up at once. Knows nothing of models or of what vectors are for.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwkv_runtime.errors import ShapeError, WeightsError
from rwkv_runtime.token_ids import token_ids

REACH: Final = 8
"""Most tokens of a word, and how many tokens in front of a window are enough to know the words that end in it."""

NONE: Final = -1
"""Stands for no token and for no word."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Depth:
    """Nodes of the trie that are as many tokens away from a word's end.

    `keys`, ascending, are node of the depth before * vocabulary + token; a node is the place of its key. `rows` are the
    numbers of the words that begin there, or NONE.
    """

    keys: Ints
    rows: Ints


@dataclass(frozen=True)
class Words:
    """Vectors of words, `weight` [n, E] as stored, and which tokens are one."""

    weight: Tensor
    vocabulary: int
    depths: tuple[Depth, ...]

    @classmethod
    def of(cls, weight: Tensor, tokens: Tensor, vocabulary: int) -> Words:
        """The words whose tokens are `tokens` [n, K], integers below `vocabulary`, unused places at the end NONE.

        Raises ShapeError for shapes that do not fit, WeightsError for a token outside of the vocabulary or behind an
        unused place, for a word of fewer than 2 or more than REACH tokens, and for one that is there twice.
        """
        if weight.dim() != 2 or tokens.dim() != 2 or len(weight) != len(tokens) or not len(tokens):
            raise ShapeError(f"words of {list(weight.shape)} do not fit their tokens of {list(tokens.shape)}")
        table: Ints = tokens.cpu().numpy().astype(np.int64)
        return cls(weight, vocabulary, _depths(table, _checked_lengths(table, vocabulary), vocabulary))

    @property
    def context(self) -> int:
        """How many tokens in front of others matter for the words that end in these."""
        return len(self.depths) - 1

    def rows(self, before: Sequence[int], tokens: Sequence[int]) -> Ints:
        """For each of T `tokens`, behind those of `before`, the number of the longest word that it ends, or NONE: [T].

        Raises ShapeError for a token outside of the vocabulary.
        """
        near = self._numbers(before)[-self.context :]
        stream, first = np.concatenate([near, self._numbers(tokens)]), len(near)
        found = np.full(len(stream) - first, NONE, np.int64)
        places, nodes = np.arange(first, len(stream)), np.zeros(len(found), np.int64)
        for back, depth in enumerate(self.depths):
            outside = int(places.searchsorted(back))  # places ascend
            places, nodes = places[outside:], nodes[outside:]
            keys = nodes * self.vocabulary + stream[places - back]
            nodes = np.minimum(depth.keys.searchsorted(keys), len(depth.keys) - 1)
            known = np.flatnonzero(depth.keys[nodes] == keys)
            places, nodes = places[known], nodes[known]
            rows = depth.rows[nodes]
            begun = np.flatnonzero(rows != NONE)
            found[places[begun] - first] = rows[begun]  # a longer word takes the place of a shorter one
        return found

    def added(self, vectors: Tensor, before: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Vectors [T, E] float32 of `tokens`, to each of which that of the word it ends is added."""
        rows = torch.from_numpy(self.rows(before, tokens))
        places = torch.nonzero(rows != NONE).flatten()
        return vectors.index_add(0, places, self.weight[rows[places]].float())

    def _numbers(self, tokens: Sequence[int]) -> Ints:
        return np.frombuffer(array("q", token_ids(tokens, self.vocabulary)), np.int64)


def _checked_lengths(table: Ints, vocabulary: int) -> Ints:
    """How many tokens each word has. Raises WeightsError."""
    used = table != NONE
    lengths: Ints = used.sum(1, dtype=np.int64)
    if (outside := (used & ((table < 0) | (table >= vocabulary))).any(1)).any():
        word = int(outside.argmax())
        raise WeightsError(
            f"word {word} has the tokens {table[word].tolist()}, of which not all are below {vocabulary}"
        )
    if (gap := (used != (np.arange(table.shape[1]) < lengths[:, None])).any(1)).any():
        word = int(gap.argmax())
        raise WeightsError(f"word {word} has the tokens {table[word].tolist()}; -1 may only stand behind the last")
    if (wrong := (lengths < 2) | (lengths > REACH)).any():
        word = int(wrong.argmax())
        raise WeightsError(f"word {word} has {lengths[word]} token(s); a word has 2 to {REACH}")
    return lengths


def _depths(table: Ints, lengths: Ints, vocabulary: int) -> tuple[Depth, ...]:
    """The trie of words. Raises WeightsError if one is there twice."""
    depths = []
    words, nodes = np.arange(len(table)), np.zeros(len(table), np.int64)
    for back in range(int(lengths.max())):
        going_on = lengths[words] > back
        words, nodes = words[going_on], nodes[going_on]
        keys, nodes = np.unique(nodes * vocabulary + table[words, lengths[words] - 1 - back], return_inverse=True)
        begun = lengths[words] == back + 1
        rows = np.full(len(keys), NONE, np.int64)
        rows[nodes[begun]] = words[begun]
        if (lost := rows[nodes[begun]] != words[begun]).any():
            word = int(words[begun][lost][0])
            raise WeightsError(f"word {word} has the tokens {table[word, : back + 1].tolist()}, as another one has")
        depths.append(Depth(keys, rows))
    return tuple(depths)
