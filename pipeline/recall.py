"""How far back a model remembers: facts told at the beginning of a text, asked for behind ever more of other text.

The question is put in the way that every model can be asked: which of ten values is the likeliest to follow. It is
asked behind the state alone: as the policy `carry` has it (`state`), and as `section` and `reprime` have it where they
begin anew every so many tokens (`by section`, `primed anew`); and behind one that has read again the passage that BM25
finds in the text (`read again`). And it is looked up whether the fact stands in that passage (`quoted`), for which a
model need not be able to answer. States fork, so one reading of a text serves every distance. Knows nothing of files or
commands.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.metrics.bootstrap import estimate
from pipeline.policy import EVERY, PRIMED_WITH
from pipeline.retrieval.bm25 import Index
from pipeline.retrieval.terms import terms_of
from pipeline.vectors import state_behind
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.state import State

CHOICES: Final = 10
"""Values that each question is to be answered from: who guesses is right in one of ten."""

_PASSAGE: Final = 4
_SUBJECTS: Final = (
    *("harbour", "engine", "garden", "river", "theorem", "window", "market", "bridge", "orchard", "mountain"),
    *("captain", "teacher", "farmer", "painter", "judge", "baker", "pilot", "doctor", "sailor", "printer"),
)
_VERBS: Final = ("watched", "forgot", "described", "repaired", "followed", "praised", "crossed", "remembered")
_TAILS: Final = ("in the rain", "before noon", "without a word", "for many years", "near the coast", "after the war")


@dataclass(frozen=True)
class Grid:
    """What is measured: texts in which so many facts are told, asked behind so many tokens, so many times.

    Policies that begin the state anew do so every `anew` tokens behind the facts.
    """

    facts: tuple[int, ...]
    distances: tuple[int, ...]
    tries: int
    anew: int = EVERY


QUICK: Final = Grid((1, 4, 16), (256, 1024, 4096), 4, 2048)
FULL: Final = Grid((1, 4, 16, 64), (256, 1024, 4096, 16_384, 65_536), 10)


@dataclass(frozen=True)
class Cell:
    """Share of questions answered rightly, in per cent, with a 95 % interval."""

    facts: int
    distance: int
    mode: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recall:
    """All cells, by what was answered from: `state`, `by section`, `primed anew`, `quoted` or `read again`."""

    cells: tuple[Cell, ...]
    tries: int

    def horizon(self, mode: str, least: float = 50.0) -> int:
        """The furthest distance up to which a single fact is known in `least` per cent of tries; 0: none."""
        first = min(cell.facts for cell in self.cells)
        reached = 0
        for cell in sorted(self.cells, key=lambda cell: cell.distance):
            if (cell.facts, cell.mode) == (first, mode):
                if cell.value < least:
                    break
                reached = cell.distance
        return reached


def measure(engine: Engine, grid: Grid, seed: int = 0) -> Recall:
    """Tell and ask. Takes about as long as reading `3 * tries * len(facts)` texts of the largest distance."""
    kept: dict[tuple[int, int, str], list[float]] = {}
    for facts in grid.facts:
        for attempt in range(grid.tries):
            draw = random.Random(f"{seed} {facts} {attempt}")
            for distance, mode, right in _asked(engine, facts, grid, draw):
                kept.setdefault((facts, distance, mode), []).append(100.0 * right)
    cells = []
    for (facts, distance, mode), values in kept.items():
        found = estimate(values)
        cells.append(Cell(facts, distance, mode, found.value, found.low, found.high))
    return Recall(tuple(cells), grid.tries)


def _asked(engine: Engine, facts: int, grid: Grid, draw: random.Random) -> Iterator[tuple[int, str, bool]]:
    """One text: at each distance, whether a fact of it is known from the state, and having read a passage again.

    The wrong values are those of other facts, as far as there are any.
    """
    keys = draw.sample(range(100, 1000), facts)
    values = draw.sample(range(10_000, 100_000), max(facts, CHOICES))
    told = [f"The code of room {key} is {value}." for key, value in zip(keys, values, strict=False)]
    asked = draw.randrange(facts)
    question, answer = f" The code of room {keys[asked]} is", values[asked]
    choices = [answer, *[value for value in values if value != answer][: CHOICES - 1]]
    sentences = list(told)
    encode = engine.model.tokenizer.encode
    begun = encode(" ".join(told))
    states = _States.told(engine, begun, grid.anew)
    for distance in sorted(grid.distances):
        tokens: list[int] = []
        while states.read + len(tokens) < distance:
            sentences.append(_filler(draw))
            tokens += encode(f" {sentences[-1]}")
        states = states.behind(engine, tokens)
        for policy, state in states.by_policy().items():
            yield distance, policy, _known(engine, state, question, choices)
        found = _found(sentences, question)
        yield distance, "quoted", told[asked] in found
        passage = " ".join(found)
        yield distance, "read again", _known(engine, state_behind(engine, encode(passage)), question, choices)


def _filler(draw: random.Random) -> str:
    one, two = draw.sample(_SUBJECTS, 2)
    return f"The {one} {draw.choice(_VERBS)} the {two} {draw.choice(_TAILS)}."


@dataclass(frozen=True)
class _States:
    """The state behind a text by policy: carried, of its section, primed anew. `read` are the tokens behind the facts,
    `recent` the last ones."""

    carried: State
    section: State
    primed: State
    read: int
    recent: tuple[int, ...]
    anew: int

    @classmethod
    def told(cls, engine: Engine, tokens: Sequence[int], anew: int) -> _States:
        """Behind the facts."""
        state = state_behind(engine, tokens)
        return cls(state, state, state, 0, tuple(tokens[-PRIMED_WITH:]), anew)

    def by_policy(self) -> dict[str, State]:
        return {"state": self.carried, "by section": self.section, "primed anew": self.primed}

    def behind(self, engine: Engine, tokens: Sequence[int]) -> _States:
        """Behind some more tokens, of which each `anew`-th begins the state anew where the policy says so."""
        now = self
        while tokens:
            room = self.anew - now.read % self.anew
            now, tokens = now._extended(engine, tokens[:room]), tokens[room:]
        return now

    def _extended(self, engine: Engine, tokens: Sequence[int]) -> _States:
        states = {id(state): state for state in (self.carried, self.section, self.primed)}
        after = {name: _behind(engine, state, tokens) for name, state in states.items()}
        section, primed = after[id(self.section)], after[id(self.primed)]
        recent, read = (*self.recent, *tokens)[-PRIMED_WITH:], self.read + len(tokens)
        if read % self.anew == 0:
            section, primed = engine.model.initial_state(), state_behind(engine, recent)
        return _States(after[id(self.carried)], section, primed, read, recent, self.anew)


def _behind(engine: Engine, state: State, tokens: Sequence[int]) -> State:
    for begin in range(0, len(tokens), engine.window):
        state = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, False)])[0].state
    return state


def _found(sentences: Sequence[str], question: str) -> Sequence[str]:
    """The few sentences of the text that suit a question best, by words, in their order."""
    terms, index = terms_of("en"), Index()
    for begin in range(0, len(sentences), _PASSAGE):
        index.add([term for one in sentences[begin : begin + _PASSAGE] for term in terms(one)])
    best = int(np.argmax(index.scores(list(dict.fromkeys(terms(question))))))
    return sentences[best * _PASSAGE : (best + 1) * _PASSAGE]


def _known(engine: Engine, state: State, question: str, choices: Sequence[int]) -> bool:
    """Whether the first of the values is the likeliest to follow a question, of those that are as long."""
    encode = engine.model.tokenizer.encode
    asked = encode(question)
    feeds = []
    for choice in choices:
        tokens = encode(f"{question} {choice}.")
        shared = next((n for n, (a, b) in enumerate(zip(asked, tokens, strict=False)) if a != b), len(asked))
        first = max(shared - 1, 0)
        feeds.append((Feed(tuple(tokens[:-1]), state, False, tuple(tokens[1:])), first))
    fed = engine.feed([feed for feed, _ in feeds])
    nats = [
        float(one.surprise[first:].sum(dtype=np.float64))
        for one, (_, first) in zip(fed, feeds, strict=True)
        if one.surprise is not None
    ]
    return nats[0] < min(nats[1:])
