"""Answers to a question: the passages of a document that suit it best, read again on a fork of a state.

The carried state is a context, never the evidence: what is answered stands in the text, and is read again before it is
shown. The answer is a quote; this module writes no word of its own. Knows nothing of files or runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.answers.lines import Line
from pipeline.fields.calibration import ANSWER_POINTS, confidence
from pipeline.retrieval.bm25 import Index, idf
from pipeline.retrieval.fusion import best, weighted_mean
from pipeline.retrieval.passages import runs
from pipeline.retrieval.terms import Terms, terms_of
from rwkv_runtime.engine import Engine
from rwkv_runtime.state import State

PASSAGES: Final = 4
REREAD: Final = 12
"""Passages that are read again to choose among them."""

USUAL_PASSAGES: Final = 100
"""A word's rarity is judged as in a text of so many at least: in one of a single passage no word would be rare."""

LEAST_CONFIDENCE: Final = 0.5
"""Below it the answer is that it is not known."""


@dataclass(frozen=True)
class Passage:
    """A stretch of the document that suits the question, and the sentence of it that suits best."""

    lines: tuple[Line, ...]
    quote: Line
    score: float
    confidence: float

    @property
    def text(self) -> str:
        return " ".join(" ".join(line.text.split()) for line in self.lines)


@dataclass(frozen=True)
class Answer:
    """`quote` is None if it is not known. `tokens_read` counts what was read to answer, `state_sha256` is that of the
    state that the passages were read from, the same before and after."""

    question: str
    quote: Line | None
    confidence: float
    passages: tuple[Passage, ...]
    tokens_read: int
    state_sha256: str


@dataclass(frozen=True)
class Reading:
    """What a question is answered with: an engine, and by document the state from which passages are read again."""

    engine: Engine
    states: Mapping[str, State]

    def state(self, doc_id: str) -> State:
        return self.states.get(doc_id) or self.engine.model.initial_state()


def ask(lines: Iterable[Line], question: str, reading: Reading, languages: Mapping[str, str]) -> Answer:
    """Answer a question from the sentences of one or more documents, in the order of the text."""
    passages = [group for _, found in groupby(lines, lambda line: line.doc_id) for group in _grouped(list(found))]
    if not passages:
        return Answer(question, None, 0.0, (), 0, "")
    terms = terms_of(languages.get(passages[0][0].doc_id, "en"))
    index = Index()
    for passage in passages:
        index.add([term for line in passage for term in terms(line.text)])
    asked = list(dict.fromkeys(terms(question)))
    vector = vectors.isolated(reading.engine, [question])[0]
    words = index.scores(asked)
    chosen = _candidates(words, passages, vector)
    state = reading.state(passages[chosen[0]][0].doc_id)
    before = fingerprint(state)
    read = [_reread(passages[place], vector, set(asked), reading, terms) for place in chosen]
    scores = weighted_mean([words[chosen], np.array([one.cosine for one in read])], [0.5, 0.5])
    rarity = {term: idf(max(len(passages), USUAL_PASSAGES), index.having(term)) for term in asked}
    ranked = [
        _passage(passages[chosen[at]], read[at], float(scores[at]), rarity, terms) for at in best(scores, PASSAGES)
    ]
    sure = max(ranked, key=lambda one: one.confidence)
    if fingerprint(state) != before:
        raise AssertionError("asking has changed a state; please report it")
    known = sure.confidence >= LEAST_CONFIDENCE
    tokens = sum(one.tokens for one in read) + len(reading.engine.model.tokenizer.encode(question))
    return Answer(question, sure.quote if known else None, sure.confidence, tuple(ranked), tokens, before)


def fingerprint(state: State) -> str:
    """SHA-256 of a state's file, in hex."""
    return hashlib.sha256(state.to_bytes()).hexdigest()


@dataclass(frozen=True)
class _Reread:
    """What reading a passage again gave: its nearest cosine, and the place of the sentence that suits best."""

    cosine: float
    place: int
    tokens: int


def _grouped(lines: list[Line]) -> list[tuple[Line, ...]]:
    return [tuple(lines[run.first : run.last]) for run in runs(lines)]


def _candidates(words: NDArray[np.float64], passages: list[tuple[Line, ...]], vector: NDArray[np.float32]) -> list[int]:
    """Places of the passages to be read again: the best by words, and by stored vectors where there are any."""
    chosen = best(words, REREAD)
    if passages[0][0].vector is not None and passages[0][0].vector.shape == vector.shape:
        near = np.array(
            [max(float(line.vector @ vector) for line in one if line.vector is not None) for one in passages]
        )
        fused = weighted_mean([words, near], [0.5, 0.5])
        chosen = list(dict.fromkeys([*best(fused, REREAD), *chosen[: REREAD // 2]]))
    return chosen


def _reread(
    passage: tuple[Line, ...], vector: NDArray[np.float32], asked: set[str], reading: Reading, terms: Terms
) -> _Reread:
    texts = [line.text for line in passage]
    found, tokens = vectors.vectors_together(reading.engine, reading.state(passage[0].doc_id), texts)
    cosines = found.astype(np.float64) @ vector
    shared = np.array([len(asked & set(terms(text))) for text in texts], np.float64)
    place = int(np.argmax(cosines + shared / max(float(shared.max()), 1.0)))
    return _Reread(float(cosines.max()), place, tokens)


def _passage(
    lines: tuple[Line, ...], read: _Reread, score: float, rarity: Mapping[str, float], terms: Terms
) -> Passage:
    quote = lines[read.place]
    there = {term for line in lines for term in terms(line.text)}
    share = sum(weight for term, weight in rarity.items() if term in there) / max(sum(rarity.values()), 1e-9)
    sure = confidence(0.6 * share + 0.4 * max(read.cosine, 0.0), ANSWER_POINTS)
    return Passage(lines, quote, score, sure)
