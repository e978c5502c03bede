"""Texts as sets of word n-grams: which training documents repeat each other, and what they share with evaluation text.

An n-gram is a 64-bit hash of n lower-cased words, the same on every machine. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

EVALUATION_WORDS = 13
SHORT_WORDS = 4
DUPLICATE_WORDS = 12
SAMPLED_ONE_IN = 24
DUPLICATE_SHARE = 0.4

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class WordHasher:
    """Hashes n-grams of words; remembers the hash of each word it has met."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}

    def words(self, text: str) -> Hashes:
        """Hashes of the words of a text, in order."""
        return np.array([self._word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)

    def _word(self, word: str) -> int:
        known = self._words.get(word)
        if known is None:
            known = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            self._words[word] = known
        return known


def ngrams(words: Hashes, length: int) -> Hashes:
    """Hashes of all runs of `length` of these words, in order: [len(words) - length + 1], or none."""
    count = len(words) - length + 1
    if count < 1:
        return np.empty(0, np.uint64)
    sums = np.zeros(count, np.uint64)
    for position in range(length):
        sums = sums * _MULTIPLIER + words[position : position + count]
    return sums ^ (sums >> np.uint64(29))


class NearDuplicates:
    """Tells whether a document repeats one that was accepted before.

    Of the shingles (runs of 12 words) of a document every 24th by hash is looked at; it is a near-duplicate when more
    than 40 % of those stand in one accepted document.
    """

    def __init__(self, hasher: WordHasher) -> None:
        self._hasher = hasher
        self._owners: dict[int, int] = {}
        self._accepted = 0

    def accept(self, text: str) -> bool:
        """Return whether the text is new, and if so remember it."""
        shingles = np.unique(ngrams(self._hasher.words(text), DUPLICATE_WORDS))
        sampled = shingles[shingles % np.uint64(SAMPLED_ONE_IN) == 0].tolist()
        shared = Counter(self._owners[shingle] for shingle in sampled if shingle in self._owners)
        if shared and max(shared.values()) > DUPLICATE_SHARE * len(sampled):
            return False
        for shingle in sampled:
            self._owners.setdefault(shingle, self._accepted)
        self._accepted += 1
        return True


class EvaluationText:
    """The 13-grams of every evaluation document; a passage that has one of them is not trained on.

    Nor is a text of 4 to 12 words that is a paragraph of one.
    """

    def __init__(self, hasher: WordHasher, texts: Iterable[str]) -> None:
        self._hasher = hasher
        found, short = [np.empty(0, np.uint64)], set[int]()
        for text in texts:
            paragraphs = [hasher.words(part) for part in text.split("\n\n")]
            found.append(np.unique(ngrams(np.concatenate(paragraphs), EVALUATION_WORDS)))
            short.update(_whole(words) for words in paragraphs if _is_short(words))
        self._ngrams, self._short = np.unique(np.concatenate(found)), frozenset(short)

    def __len__(self) -> int:
        return len(self._ngrams)

    def touches(self, passage: str) -> bool:
        """Whether the passage shares a run of 13 words with an evaluation document, or is a short paragraph of one."""
        words = self._hasher.words(passage)
        if _is_short(words):
            return _whole(words) in self._short
        found = ngrams(words, EVALUATION_WORDS)
        if not len(found) or not len(self._ngrams):
            return False
        places = np.searchsorted(self._ngrams, found).clip(max=len(self._ngrams) - 1)
        return bool((self._ngrams[places] == found).any())


def _is_short(words: Hashes) -> bool:
    """Whether a text of these words is too short for the n-grams, and long enough to say something."""
    return SHORT_WORDS <= len(words) < EVALUATION_WORDS


def _whole(words: Hashes) -> int:
    return int(ngrams(words, len(words))[0])
