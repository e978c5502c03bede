"""What a span reader says of sentences, counted beside what words say of them. Knows nothing of files.

A model may have a reader beside it (`rwkv_runtime.spans`); it sees the passages that are read again anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.answers.confidence import Thresholds, confidence
from pipeline.vectors import Together
from rwkv_runtime.engine import Engine
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.spans import Asked, Said, SpanReader

FITTED: Final = "en"
"""The language of the texts that readers are fitted on."""


@dataclass(frozen=True)
class Scored:
    """The sentences of a passage that may be quoted, by their places, and what speaks for each [n]."""

    places: tuple[int, ...]
    scores: NDArray[np.float64]

    @property
    def best(self) -> tuple[int, float]:
        """The place and the score of the likeliest."""
        at = int(np.argmax(self.scores))
        return self.places[at], float(self.scores[at])


def reader_of(engine: Engine, language: str) -> SpanReader | None:
    """The model's reader, if it has one, for texts in the language and with the vectors that it was fitted with."""
    return engine.model.span_reader if isinstance(engine.pooler, EmbeddingHead) and language == FITTED else None


def thresholds_of(reader: SpanReader) -> Thresholds:
    """Those that were chosen with the reader, as confidences."""
    return Thresholds(confidence(reader.answered), confidence(reader.unsure))


def with_reader(
    reader: SpanReader, asked: Together, by_words: Sequence[Scored], read: Sequence[Together], firsts: Sequence[int]
) -> list[Scored]:
    """What words and the reader together say of passages that were read again.

    `asked` is the question, read by itself; `read` are the passages with all of their sentences, `firsts` the places of
    their first ones.
    """
    own = [[place - first for place in one.places] for one, first in zip(by_words, firsts, strict=True)]
    tokens = [np.isin(one.owner, kept) for one, kept in zip(read, own, strict=True)]
    said = Said(
        np.concatenate([one.features[inside] for one, inside in zip(read, tokens, strict=True)]),
        _renumbered([one.owner[inside] for one, inside in zip(read, tokens, strict=True)]),
        np.repeat(np.arange(len(read)), [len(kept) for kept in own]),
        np.concatenate([one.vectors[kept] for one, kept in zip(read, own, strict=True)]),
    )
    found = reader.sentence_scores(Asked(asked.features, asked.vectors[0]), said).astype(np.float64)
    words = np.concatenate([one.scores for one in by_words])
    scores = np.split(evidence_of_both(words, found) @ reader.mixture, np.cumsum([len(kept) for kept in own])[:-1])
    return [Scored(one.places, score) for one, score in zip(by_words, scores, strict=True)]


def evidence_of_both(words: NDArray[np.float64], read: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a reader's mixture weighs [n, 5]: of a question's sentences what words and the reader say, and how far each
    stays behind the best."""
    return np.stack([np.ones(len(words)), words, read, words - words.max(), read - read.max()], 1)


def _renumbered(owners: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Numbers of sentences that go on from passage to passage."""
    found, begin = [], 0
    for owner in owners:
        numbers, own = np.unique(owner, return_inverse=True)
        found.append(own + begin)
        begin += len(numbers)
    return np.concatenate(found)
