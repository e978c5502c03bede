"""Choosing sentences that stand for a text, in one pass and bounded memory. Knows nothing of documents or rows.

While sentences stream by, word counts and some of the sentences are kept: a uniform sample, which stands for the text,
and those that say most by the counts so far. At the end, sentences are taken greedily for what each adds: its own
weight and the words of the text that none taken before has. That sum is monotone and submodular, so the greedy choice
is within a constant of the best, and a sentence that repeats another gains little.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.query import AROUND, Query, share_around
from pipeline.salience import Signals, Terms, Traits, names_in, signals, words_in
from pipeline.values import Value

SAMPLE_SIZE: Final = 192
CANDIDATES: Final = 256
KEPT_AT_MOST: Final = SAMPLE_SIZE + CANDIDATES + 192
TERMS_COUNTED: Final = 4096
NAMES_COUNTED: Final = 1024

_NEAR: Final = 0.6
_OWN: Final = 0.5
_BESIDE_QUERY: Final = 0.1
_COVERAGE: Final = 0.3
_NAMES: Final = 0.3
_SPEECH: Final = 0.4
_AGAIN: Final = 0.6
_COMMON_COUNTS: Final = 1.5
_LENGTH_POWER: Final = 0.2
_FULL: Final = 0.93
_SAYS_WHY: Final = 0.75

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A sentence that may be chosen: its text verbatim and its place. `key` draws the sample.

    `traits` are those of its text by the terms of one language, where somebody has looked at it already.
    """

    index: int
    char_start: int
    char_end: int
    text: str
    key: int = 0
    traits: Traits | None = field(default=None, compare=False, repr=False)

    def traits_by(self, terms: Terms) -> Traits:
        return self.traits or Traits.of(self.text, terms)


@dataclass(frozen=True)
class Choice:
    """A chosen sentence and why: `central`, `place`, `names`, `query`, `new`; at least one of them."""

    candidate: Candidate
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """The longest that a summary may be; None sets no limit to its words."""

    sentences: int
    words: int | None = None


@dataclass(frozen=True)
class Lens:
    """How a text is looked at: the words of its language, what is looked for, and what draws the sample."""

    terms: Terms
    query: Query
    salt: str


@dataclass(frozen=True)
class Selection:
    """What is known of a text so far, whose first sentence has the index `first`.

    `frequency` says in how many sentences a term was, `names` how often a word was capitalised inside one; both
    forget the rarest beyond a bound. `marks` [2, kept, terms of the query] are those of each sentence kept, its own
    and those around it.
    """

    first: int
    count: int
    frequency: Mapping[str, int]
    names: Mapping[str, int]
    kept: tuple[Candidate, ...]
    marks: Floats

    @classmethod
    def empty(cls, query: Query) -> Selection:
        return cls(0, 0, {}, {}, (), np.zeros((2, 0, len(query.terms)), np.float32))

    def seen(self, sentences: Sequence[Candidate], lens: Lens) -> Selection:
        """The selection behind some more sentences; how they are divided among calls makes no difference."""
        now, room = self, KEPT_AT_MOST - len(self.kept)
        while len(sentences):
            now = now._extended(sentences[:room], lens)
            sentences = sentences[room:]
            if len(now.kept) >= KEPT_AT_MOST:
                now = now._pruned(lens)
            room = KEPT_AT_MOST - len(now.kept)
        return now

    def choose(self, budget: Budget, lens: Lens) -> tuple[Choice, ...]:
        """The sentences to take within a budget, in text order."""
        if not self.kept:
            return ()
        return tuple(sorted(self._weighing(lens).taken(budget), key=lambda choice: choice.candidate.index))

    def covers_what(self, other: Selection) -> bool:
        """Whether both have seen the same sentences of a text; by the same lens they are the same then."""
        return (self.first, self.count) == (other.first, other.count)

    def _extended(self, sentences: Sequence[Candidate], lens: Lens) -> Selection:
        frequency, names = dict(self.frequency), dict(self.names)
        found = [sentence.traits_by(lens.terms) for sentence in sentences]
        kept = list(self.kept)
        for sentence, traits in zip(sentences, found, strict=True):
            _count(frequency, traits.counts, TERMS_COUNTED)
            _count(names, traits.names, NAMES_COUNTED)
            place = (sentence.index, sentence.char_start, sentence.char_end)
            kept.append(Candidate(*place, sentence.text, _key(lens.salt, sentence.index), traits))
        first = self.first if self.count else sentences[0].index
        marks = _marked(self.marks, found, lens.query)
        return Selection(first, self.count + len(sentences), frequency, names, tuple(kept), marks)

    def _pruned(self, lens: Lens) -> Selection:
        """Without those that neither stand for the text nor say much of it. The latest may still gain from the next."""
        weights = self._weighing(lens).weights
        best = np.argsort(-weights, kind="stable")[:CANDIDATES].tolist()
        latest = range(len(self.kept) - AROUND, len(self.kept))
        places = sorted({*best, *self._sample(), *latest})
        return replace(self, kept=tuple(self.kept[place] for place in places), marks=self.marks[:, places])

    def _sample(self) -> list[int]:
        """Where the sentences that stand for the text are among those kept, in text order."""
        by_key = sorted(range(len(self.kept)), key=lambda place: self.kept[place].key)
        return sorted(by_key[:SAMPLE_SIZE])

    @property
    def voters(self) -> list[int]:
        """The sentences that stand for the text, by whose votes centrality goes; counted from the first one seen."""
        return [self.kept[place].index - self.first for place in self._sample()]

    def _weighing(self, lens: Lens) -> Weighing:
        found = signals(
            [candidate.traits_by(lens.terms) for candidate in self.kept],
            [candidate.index - self.first for candidate in self.kept],
            self._sample(),
            self.count,
            self.frequency,
            self.names,
        )
        own, near = self.marks @ lens.query.rarity(self.count, self.frequency)
        return Weighing(self.kept, found, _scaled(own), _scaled(near))

    def to_value(self) -> dict[str, Value]:
        """This selection as plain values for a checkpoint."""
        return {
            "first": self.first,
            "count": self.count,
            "frequency": _to_columns(self.frequency),
            "names": _to_columns(self.names),
            "kept": [[c.index, c.char_start, c.char_end, c.text, c.key] for c in self.kept],
            "marks": self.marks,
        }

    @classmethod
    def from_value(cls, value: Any, terms: Terms) -> Selection:
        """The inverse of `to_value`; `terms` are those of the lens that it was looked at with."""
        return cls(
            cast(int, value["first"]),
            cast(int, value["count"]),
            _from_columns(value["frequency"]),
            _from_columns(value["names"]),
            tuple(
                Candidate(index, start, end, text, key, Traits.of(text, terms))
                for index, start, end, text, key in value["kept"]
            ),
            value["marks"],
        )


@dataclass(frozen=True)
class Weighing:
    """What each of some sentences is worth [n], and what they are worth together."""

    candidates: tuple[Candidate, ...]
    signals: Signals
    own: Floats
    near: Floats

    @property
    def weights(self) -> Floats:
        """What each sentence is worth by itself [n]."""
        found = self.signals
        weights = (found.central * found.place + _NAMES * found.names) * (1 - _SPEECH * found.speech)
        if self.near.any():
            weights = _NEAR * self.near + _OWN * self.own + _BESIDE_QUERY * found.central
        return np.asarray(weights * found.length, np.float32)

    @property
    def concepts(self) -> Floats:
        """What it is worth to have each term [terms] in the summary: all of them together `_COVERAGE`."""
        counted = self.signals.weights
        worth = counted**_COMMON_COUNTS
        scale = 0.0 if self.near.any() else _COVERAGE / max(float(worth.sum()), 1e-12)
        return np.asarray(worth * scale, np.float32)

    def value(self, places: Sequence[int]) -> float:
        """What the sentences at these places are worth together: monotone and submodular."""
        covered = (self.signals.vectors[list(places)] > 0).any(axis=0)
        return float(self.weights[list(places)].sum() + self.concepts[covered].sum())

    def taken(self, budget: Budget) -> list[Choice]:
        """Take the sentence that adds most, again and again, until the budget is spent; none repeats another."""
        rows, weights, concepts = self.signals.vectors, self.weights, self.concepts
        has = (rows > 0).astype(np.float32)
        words = np.array([words_in(candidate.text) for candidate in self.candidates], np.float32)
        cost = np.maximum(words, 8) ** (_LENGTH_POWER if budget.words and not self.near.any() else 0)
        left, most = np.ones(len(rows), bool), budget.words or np.inf
        fresh, spent = concepts.copy(), 0.0
        chosen: list[Choice] = []
        while len(chosen) < budget.sentences and spent < most * _FULL:
            left &= words + spent <= most
            if not left.any():
                break
            news = has @ fresh
            best = int(np.argmax(np.where(left, (weights + news) / cost, -1)))
            chosen.append(Choice(self.candidates[best], self._reasons(best)))
            left &= rows @ rows[best] <= _AGAIN
            left[best] = False
            fresh[has[best] > 0] = 0
            spent += words[best]
        return chosen

    def _reasons(self, place: int) -> tuple[str, ...]:
        """Why a sentence was taken: the signals that are strong, or else the strongest."""
        found = self.signals
        strength = {"query": max(self.own[place], self.near[place]), "central": found.central[place]}
        if not self.near.any():
            strength |= {"place": (found.place[place] - 0.6) / 0.4, "names": found.names[place]}
        strong = tuple(name for name, value in strength.items() if value >= _SAYS_WHY)
        return strong or (max(strength, key=lambda name: float(strength[name])),)


def counted(texts: Iterable[str], terms: Terms) -> tuple[dict[str, int], dict[str, int]]:
    """In how many of some sentences each term is, and how often a word is capitalised inside one; none is forgotten."""
    frequency, names = Counter[str](), Counter[str]()
    for text in texts:
        frequency.update(set(terms(text)))
        names.update(names_in(text))
    return dict(frequency), dict(names)


def _to_columns(counts: Mapping[str, int]) -> dict[str, Value]:
    """Counts as two lists."""
    return {"of": list(counts), "times": list(counts.values())}


def _from_columns(value: Any) -> dict[str, int]:
    """The inverse; checkpoints of earlier versions hold pairs."""
    return dict(zip(value["of"], value["times"], strict=True)) if isinstance(value, Mapping) else dict(value)


def _marked(before: Floats, found: Sequence[Traits], query: Query) -> Floats:
    """Marks [2, kept, terms] with those of some more sentences behind them, which share theirs with those around."""
    old, size = before.shape[1], len(query.terms)
    own, near = np.concatenate([before, np.zeros((2, len(found), size), np.float32)], axis=1)
    for place, traits in enumerate(found if size else (), old):
        own[place] = near[place] = query.marks(traits.counts)
        for other in range(place - 1, max(place - 1 - AROUND, -1), -1):
            share = np.float32(share_around(place - other))
            near[other] += share * own[place]
            near[place] += share * own[other]
    return np.stack([own, near])


def _count(counts: dict[str, int], found: Iterable[str], most: int) -> None:
    """Count what was found; beyond twice the bound, only the commonest stay."""
    for one in sorted(found):
        counts[one] = counts.get(one, 0) + 1
    if len(counts) > 2 * most:
        commonest = sorted(counts, key=lambda one: (-counts[one], one))[:most]
        kept = {one: counts[one] for one in commonest}
        counts.clear()
        counts.update(kept)


def _key(salt: str, index: int) -> int:
    digest = hashlib.blake2b(f"{salt}\0{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def _scaled(values: Floats) -> Floats:
    scaled: Floats = (values / max(float(values.max(initial=0)), 1e-12)).astype(np.float32)
    return scaled
