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
from pipeline.fields.calibration import answer_confidence
from pipeline.retrieval.bm25 import Index, idf
from pipeline.retrieval.fusion import best, best_apart, of_passages
from pipeline.retrieval.passages import runs
from pipeline.retrieval.terms import Terms, terms_of
from rwkv_runtime.engine import Engine
from rwkv_runtime.state import State

PASSAGES: Final = 4
REREAD: Final = 12
"""Passages that are read again to choose among them."""

USUAL_SENTENCES: Final = 500
"""A word's rarity is judged as in a text of so many at least: in one of a few sentences no word would be rare."""

LEAST_CONFIDENCE: Final = 0.25
"""Below it the answer is that it is not known. `unspool eval ask` says how often that is wrong, and how often right."""


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
    asked = list(dict.fromkeys(terms(question)))
    sentences, words, parts = _scored(passages, asked, terms)
    vector = vectors.isolated(reading.engine, [question])[0]
    chosen = _candidates(words, parts, passages, vector)
    state = reading.state(passages[chosen[0]][0].doc_id)
    before = fingerprint(state)
    rarity = {term: idf(max(len(sentences), USUAL_SENTENCES), sentences.having(term)) for term in asked}
    read = [_reread(passages[place], vector, rarity, reading, terms) for place in chosen]
    scores = of_passages(words[chosen], parts[chosen], np.array([one.cosine for one in read]))
    ranked = [_passage(passages[chosen[at]], read[at], float(scores[at])) for at in best(scores, PASSAGES)]
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
    """What reading a passage again gave: its nearest cosine, the sentence that suits best, and how sure that is."""

    cosine: float
    place: int
    tokens: int
    confidence: float


def _grouped(lines: list[Line]) -> list[tuple[Line, ...]]:
    return [tuple(lines[run.first : run.last]) for run in runs(lines)]


def _scored(
    passages: list[tuple[Line, ...]], asked: list[str], terms: Terms
) -> tuple[Index, NDArray[np.float64], NDArray[np.float64]]:
    """An index of the sentences, and BM25 of each passage as a whole [n] and of its best sentence [n]."""
    index, sentences, firsts = Index(), Index(), []
    for passage in passages:
        firsts.append(len(sentences))
        found = [terms(line.text) for line in passage]
        index.add([term for one in found for term in one])
        for one in found:
            sentences.add(one)
    return sentences, index.scores(asked), np.maximum.reduceat(sentences.scores(asked), firsts)


def _candidates(
    words: NDArray[np.float64],
    parts: NDArray[np.float64],
    passages: list[tuple[Line, ...]],
    vector: NDArray[np.float32],
) -> list[int]:
    """Places of the passages to be read again: the best by words, and by stored vectors where there are any."""
    chosen = best_apart(of_passages(words, parts, None), REREAD)
    if passages[0][0].vector is not None and passages[0][0].vector.shape == vector.shape:
        near = np.array(
            [max(float(line.vector @ vector) for line in one if line.vector is not None) for one in passages]
        )
        fused = of_passages(words, parts, near)
        chosen = list(dict.fromkeys([*best_apart(fused, REREAD), *chosen[: REREAD // 2]]))
    return chosen


def _reread(
    passage: tuple[Line, ...],
    vector: NDArray[np.float32],
    rarity: Mapping[str, float],
    reading: Reading,
    terms: Terms,
) -> _Reread:
    texts = [line.text for line in passage]
    found, tokens = vectors.vectors_together(reading.engine, reading.state(passage[0].doc_id), texts)
    cosines = found.astype(np.float64) @ vector
    held = [set(terms(text)) for text in texts]
    shared = np.array([sum(weight for term, weight in rarity.items() if term in one) for one in held])
    place = int(np.argmax(cosines + shared / max(float(shared.max()), 1e-9)))
    sure = answer_confidence(float(shared[place]), sum(rarity.values()) - float(shared[place]))
    return _Reread(float(cosines.max()), place, tokens, sure)


def _passage(lines: tuple[Line, ...], read: _Reread, score: float) -> Passage:
    return Passage(lines, lines[read.place], score, read.confidence)
