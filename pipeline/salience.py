"""How much each of some sentences says of the text that they come from: centrality, place, names, speech, length.

The signals need the text's word counts and a uniform sample of its sentences, never the whole text, so they can be
computed over what a stream has kept. All are in [0, 1]. Knows nothing of documents, rows or how sentences were kept.

Centrality is the mean of LexRank (Erkan and Radev, 2004) on the graph of the sample and of closeness to the centroid
of all sentences; both on TF-IDF, which no language model is needed for.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Terms = Callable[[str], list[str]]

_NAME: Final = re.compile(r"(?<=[\w,;] )[A-Z]\w+")
_SPEECH: Final = re.compile('["“”„«»「『]')
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_ASCII_LETTERS: Final = string.ascii_letters.encode("ascii")
_TOO_FEW_WORDS: Final = 12
_TOO_MANY_WORDS: Final = 80
_LETTERS: Final = 0.7
_CHARS_PER_WORD: Final = 6
_SHARED: Final = 2
_LIKE: Final = 0.1
_DAMPING: Final = 0.85
_ROUNDS: Final = 40
_NAMED_OFTEN: Final = 3
_NAMES_ENOUGH: Final = 3


@dataclass(frozen=True)
class Traits:
    """What a sentence says by itself, whatever text it is in: looked at once, asked for over and over.

    `counts` has its terms in the order in which they come first; `names` are the words that are capitalised inside it.
    """

    counts: Mapping[str, int]
    names: tuple[str, ...]
    speech: bool
    length: float

    @classmethod
    def of(cls, text: str, terms: Terms) -> Traits:
        """Look at a sentence."""
        return cls(Counter(terms(text)), tuple(names_in(text)), bool(_SPEECH.search(text)), length_prior(text))


@dataclass(frozen=True)
class Signals:
    """Per sentence [n]. `vectors` [n, terms] are TF-IDF rows, `weights` [terms] count the sentences with a term.

    Rows have length 1 with their rare words, those of one sentence only, which have no column: they tie it to none.
    """

    central: Floats
    place: Floats
    names: Floats
    speech: Floats
    length: Floats
    vectors: Floats
    weights: Floats


def signals(
    sentences: Sequence[Traits],
    indices: Sequence[int],
    sample: Sequence[int],
    count: int,
    frequency: Mapping[str, int],
    names: Mapping[str, int],
) -> Signals:
    """Signals of n sentences of a text of `count`, the `indices`-th of it.

    `sample` are the positions among the n of those that stand for the whole text; `frequency` says in how many
    sentences of the text a term is, `names` how often a word is capitalised inside a sentence.
    """
    rows, weights, idf = _tfidf([one.counts for one in sentences], count, frequency)
    centroid = weights * idf
    with np.errstate(all="ignore"):  # a library of matrix products may raise flags over lanes beyond the arrays
        near = rows @ (centroid / max(float(np.linalg.norm(centroid)), 1e-12))
    central: Floats = ((_scaled(near) + _scaled(_lexrank(rows, sample))) / 2).astype(np.float32)
    return Signals(
        central=central,
        place=_place(np.asarray(indices, np.float32), count),
        names=np.array([_named(one.names, names) for one in sentences], np.float32),
        speech=np.array([one.speech for one in sentences], np.float32),
        length=np.array([one.length for one in sentences], np.float32),
        vectors=rows,
        weights=weights,
    )


def length_prior(text: str) -> float:
    """How well the length of a sentence suits a summary, in (0, 1]: very short and very long ones say little."""
    words = words_in(text)
    letters = letters_in(text) / max(len(text), 1)
    fits = min(1.0, words / _TOO_FEW_WORDS, (_TOO_MANY_WORDS / max(words, 1)) ** 2)
    return max(fits * min(1.0, letters / _LETTERS) ** 2, 1e-3)


def letters_in(text: str) -> int:
    """The letters of a text, counted without looking at each: this is asked of every sentence."""
    plain = text.encode("ascii", "ignore")
    others = "" if len(plain) == len(text) else "".join(_BEYOND_ASCII.findall(text))
    return len(plain) - len(plain.translate(None, _ASCII_LETTERS)) + sum(map(str.isalpha, others))


def words_in(text: str) -> int:
    """The words of a text; where words are not spaced, its characters stand for them."""
    return max(len(text.split()), len(text) // _CHARS_PER_WORD if _unspaced(text) else 0)


def names_in(text: str) -> list[str]:
    """Words that are capitalised though no sentence begins there."""
    return _NAME.findall(text)


def _unspaced(text: str) -> bool:
    return len(text) > 2 * _CHARS_PER_WORD * max(len(text.split()), 1)


def _tfidf(
    sentences: Sequence[Mapping[str, int]], count: int, frequency: Mapping[str, int]
) -> tuple[Floats, Floats, Floats]:
    """Rows [n, terms] of a unit length, and per term the sentences that have it and its inverse sentence frequency."""
    shared = dict.fromkeys(term for counts in sentences for term in counts if frequency.get(term, 1) >= _SHARED)
    columns = {term: place for place, term in enumerate(shared)}
    weights = np.array([frequency[term] for term in columns], np.float32)
    idf = np.log1p(count / np.maximum(weights, 1)).astype(np.float32)
    rare = float(np.log1p(count)) ** 2
    cells = [
        (row, columns[term], times)
        for row, counts in enumerate(sentences)
        for term, times in counts.items()
        if term in columns
    ]
    rows = np.zeros((len(sentences), len(columns)), np.float32)
    at, of, times = np.array(cells, np.int64).reshape(-1, 3).T
    rows[at, of] = _damped(times) * idf[of]
    alone = [len(counts) for counts in sentences] - np.bincount(at, minlength=len(sentences))
    for row, others in zip(rows, alone.tolist(), strict=True):
        row /= max(float(np.sqrt(row @ row + others * rare)), 1e-12)
    return rows, weights, idf


def _damped(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 + ln of each number. Taken one at a time: many at once may differ in the last bit."""
    return np.array([1 + np.log(one) for one in range(1, times.max(initial=1) + 1)])[times - 1]


def _lexrank(rows: Floats, sample: Sequence[int]) -> Floats:
    """PageRank on the sample's graph of likeness, handed on once to every row [n]."""
    likeness = rows @ rows[list(sample)].T
    likeness[likeness < _LIKE] = 0
    likeness[list(sample), range(len(sample))] = 0  # nobody votes for itself
    graph = likeness[list(sample)]
    share = np.maximum(graph.sum(axis=0), 1e-12)
    rank = np.full(len(sample), 1 / max(len(sample), 1), np.float32)
    for _ in range(_ROUNDS):
        rank = (1 - _DAMPING) / len(sample) + _DAMPING * (graph @ (rank / share))
    found: Floats = ((1 - _DAMPING) / max(len(sample), 1) + _DAMPING * (likeness @ (rank / share))).astype(np.float32)
    return found


def _place(indices: Floats, count: int) -> Floats:
    """1 at both ends of the text, 0.6 in its middle: reports and papers say at their ends what they are about."""
    from_end = np.minimum(indices, count - 1 - indices) / max(count, 1)
    place: Floats = ((1.25 - from_end) / 1.25).astype(np.float32)
    return place


def _named(found: Sequence[str], names: Mapping[str, int]) -> float:
    known = {name for name in found if names.get(name, 0) >= _NAMED_OFTEN}
    return min(len(known), _NAMES_ENOUGH) / _NAMES_ENOUGH


def _scaled(values: Floats) -> Floats:
    scaled: Floats = (values / max(float(values.max(initial=0)), 1e-12)).astype(np.float32)
    return scaled
