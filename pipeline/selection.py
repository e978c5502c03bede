"""Choosing sentences that stand for a text, in one pass and bounded memory. Knows nothing of documents or rows.

Two small sets are kept while vectors stream by: a uniform sample of all sentences, which stands for the text, and
the most promising candidates, those near the centre of what has been read. At the end, candidates are taken
greedily so that the sample is covered: facility location, which is submodular, so greedy choice is within 1 - 1/e
of the best, and a sentence that repeats another gains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.values import Value

SAMPLE_SIZE: Final = 128
CANDIDATES: Final = 96
_GOOD_WORDS: Final = (8, 45)
_CHARS_PER_WORD: Final = 6
_PRIOR_WEIGHT: Final = 0.15
_REPEATS_WITHIN: Final = 0.15

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A sentence that may be chosen: its text verbatim, its place, and how promising it looked when it came."""

    index: int
    char_start: int
    char_end: int
    text: str
    promise: float


@dataclass(frozen=True)
class Selection:
    """What is known of a text so far. `sample` [s, d] and `vectors` [c, d] are unit length, `total` [d] is a sum."""

    count: int
    total: Vectors
    sample_keys: tuple[int, ...]
    sample: Vectors
    candidates: tuple[Candidate, ...]
    vectors: Vectors

    @classmethod
    def empty(cls, dimensions: int) -> Selection:
        none = np.zeros((0, dimensions), np.float32)
        return cls(0, np.zeros(dimensions, np.float32), (), none, (), none)

    def seen(self, sentences: Sequence[Candidate], vectors: Vectors, salt: str) -> Selection:
        """The selection behind some more sentences. `salt` names the text: the sample is drawn by it."""
        if not sentences:
            return self
        total = (self.total + vectors.sum(axis=0)).astype(np.float32)
        centre = total / max(float(np.linalg.norm(total)), 1e-12)
        promises = vectors @ centre
        fresh = [
            replace(sentence, promise=float(near) * length_prior(sentence.text))
            for sentence, near in zip(sentences, promises, strict=True)
        ]
        keys = [_key(salt, sentence.index) for sentence in sentences]
        sampled = _smallest((*self.sample_keys, *keys), SAMPLE_SIZE)
        # A running header may come hundreds of times: one of it is candidate enough.
        new = _first_of_each([sentence.text for sentence in fresh], {kept.text for kept in self.candidates})
        candidates = (*self.candidates, *(fresh[i] for i in new))
        kept = _smallest([-candidate.promise for candidate in candidates], CANDIDATES)
        all_keys = (*self.sample_keys, *keys)
        return Selection(
            self.count + len(sentences),
            total,
            tuple(all_keys[i] for i in sampled),
            np.concatenate([self.sample, vectors])[sampled],
            tuple(candidates[i] for i in kept),
            np.concatenate([self.vectors, vectors[new]])[kept],
        )

    def choose(self, limit: int) -> tuple[Candidate, ...]:
        """At most `limit` candidates that cover the sample best and do not repeat each other, in text order."""
        if not self.candidates:
            return ()
        likeness = np.maximum(self.sample @ self.vectors.T, 0.0)
        priors = np.array([length_prior(candidate.text) for candidate in self.candidates], np.float32)
        covered = np.zeros(len(self.sample), np.float32)
        chosen: list[int] = []
        # How near two must be to say the same depends on the spread: some models' vectors lie in a narrow cone.
        same = min(1 - _REPEATS_WITHIN * (1 - float(likeness.mean())), 1 - 1e-5)
        left = np.ones(len(self.candidates), bool)
        while left.any() and len(chosen) < limit:
            gains = np.maximum(likeness, covered[:, None]).mean(axis=0) - covered.mean()
            gains = gains * (1 - _PRIOR_WEIGHT + _PRIOR_WEIGHT * priors) * priors
            best = int(np.argmax(np.where(left, gains, -1.0)))
            chosen.append(best)
            left &= self.vectors @ self.vectors[best] < same
            left[best] = False
            covered = np.maximum(covered, likeness[:, best])
        return tuple(sorted((self.candidates[i] for i in chosen), key=lambda candidate: candidate.index))

    def to_value(self) -> dict[str, Value]:
        """This selection as plain values for a checkpoint."""
        return {
            "count": self.count,
            "total": self.total,
            "sample_keys": list(self.sample_keys),
            "sample": self.sample,
            "candidates": [[c.index, c.char_start, c.char_end, c.text, c.promise] for c in self.candidates],
            "vectors": self.vectors,
        }

    @classmethod
    def from_value(cls, value: Any) -> Selection:
        return cls(
            cast(int, value["count"]),
            value["total"],
            tuple(value["sample_keys"]),
            value["sample"],
            tuple(Candidate(*row) for row in value["candidates"]),
            value["vectors"],
        )


def length_prior(text: str) -> float:
    """How well the length of a sentence suits a summary, in (0, 1]: very short and very long ones say little."""
    words = max(len(text.split()), len(text) / _CHARS_PER_WORD)
    short, long = _GOOD_WORDS
    letters = sum(character.isalpha() for character in text) / max(len(text), 1)
    return max(min(1.0, words / short, long / words) * min(1.0, letters / 0.6), 1e-3)


def _key(salt: str, index: int) -> int:
    digest = hashlib.blake2b(f"{salt}\0{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def _smallest(keys: Sequence[float], count: int) -> list[int]:
    """Positions of the `count` smallest keys, in rising order of position."""
    return sorted(sorted(range(len(keys)), key=lambda i: (keys[i], i))[:count])


def _first_of_each(texts: Sequence[str], known: set[str]) -> list[int]:
    """Positions of the texts that are not in `known` and not among the texts before them."""
    places: list[int] = []
    seen = set(known)
    for place, text in enumerate(texts):
        if text not in seen:
            places.append(place)
            seen.add(text)
    return places
