"""Answers to a question: the passages of a document that suit it best, read again on a fork of a state.

The carried state is a context, never the evidence: what is answered stands in the text, and is read again before it is
shown. The answer is a quote; this module writes no word of its own. Knows nothing of files or runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.answers import evidence
from pipeline.answers.confidence import Thresholds, confidence, score, thresholds
from pipeline.answers.lines import Line
from pipeline.answers.material import Material
from pipeline.answers.questions import ABOUT, Question
from pipeline.answers.reader import Scored, reader_of, thresholds_of, with_reader
from pipeline.query import Query
from pipeline.retrieval.fusion import best, best_apart, of_passages
from pipeline.selection import Budget, Candidate, Lens, Selection
from rwkv_runtime.engine import Engine
from rwkv_runtime.state import State

PASSAGES: Final = 4
REREAD: Final = 12
"""Passages that are read again to choose among them."""

DEFINING: Final = 4
"""Passages besides, that say what something is where that is asked: its name may stand everywhere."""

ANSWERED: Final = "answered"
UNSURE: Final = "unsure"
ABSENT: Final = "absent"
QUOTE: Final = "quote"
SUMMARY: Final = "summary"

KEYED: Final = 0.5
"""The share of what is asked for that the key of a line has where a form is asked."""

RELATED_WORDS: Final = 8
RELATED_WEIGHT: Final = 0.4
"""How much the best of the words that answers have instead of the question's own counts in the search for passages."""


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
class Value:
    """What in the quote is of the kind that was asked for, such as a date or a sum; [char_start, char_end) of the
    document."""

    text: str
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Answer:
    """`outcome`: ANSWERED, with a quote; UNSURE, with passages that may answer; or ABSENT, if nothing speaks for it.

    `quote` is None unless it is answered by one. A question on what a text is about is answered by a summary, whose
    sentences are the passages; nobody knows how often that is right, so its `confidence` is 1. `tokens_read` counts
    what was read to answer, `state_sha256` is that of the state that the passages were read from, the same before and
    after; empty for a text without sentences.
    """

    question: str
    outcome: str
    method: str
    quote: Line | None
    value: Value | None
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
    return answered(Material.of(lines, languages), question, reading)


def answered(material: Material, question: str, reading: Reading) -> Answer:
    """Answer a question from sentences that have been made ready to be asked."""
    if not material.lines:
        return Answer(question, ABSENT, QUOTE, None, None, 0.0, (), 0, "")
    material = material.asked(question)
    asked = evidence.Asked.of(Question.of(question, material.find_terms), material)
    state = reading.state(material.lines[0].doc_id)
    before = fingerprint(state)
    if asked.question.kind == ABOUT:
        return _summary(question, material, before)
    if not asked.question.terms:
        return Answer(question, ABSENT, QUOTE, None, None, 0.0, (), 0, before)
    found = _reread(asked, material, reading)
    surest = max(found.passages, key=lambda one: one.confidence)
    ranked = (surest, *(one for one in found.passages if one is not surest))[:PASSAGES]
    if fingerprint(state) != before:
        raise AssertionError("asking has changed a state; please report it")
    sure, outcome = surest.confidence, outcome_of(surest.confidence, surest.quote, asked, found.limits)
    quote = surest.quote if outcome == ANSWERED else None
    value = None if quote is None else _value(quote, asked)
    return Answer(question, outcome, QUOTE, quote, value, sure, ranked, found.tokens, before)


def outcome_of(sure: float, quote: Line, asked: evidence.Asked, limits: Thresholds) -> str:
    """What is said when the likeliest sentence is as sure as this. Who asks when is not answered without a date."""
    if sure >= limits.answered and not evidence.lacks_value(quote.text, asked.question):
        return ANSWERED
    return UNSURE if sure >= limits.unsure else ABSENT


def likeliest(material: Material, question: str) -> tuple[Line, float, str]:
    """The sentence that answers likeliest, how sure that is and what is said, of sentences without stored vectors: as
    `answered` has it of a model without a span reader, which reads passages again to show them and decides by words.

    Raises ValueError if the question has no words to look for.
    """
    material = material.asked(question)
    asked = evidence.Asked.of(Question.of(question, material.find_terms), material)
    if not asked.question.terms:
        raise ValueError(f"{question!r} has no words to look for")
    words, parts = word_scores(asked, material)
    chosen = candidates(words, parts, asked, material)
    place, best_score = max((one.best for one in sentences(chosen, words, asked, material)), key=lambda one: one[1])
    quote, sure = material.lines[place], confidence(best_score)
    return quote, sure, outcome_of(sure, quote, asked, thresholds())


def fingerprint(state: State) -> str:
    """SHA-256 of a state's file, in hex."""
    return hashlib.sha256(state.to_bytes()).hexdigest()


@dataclass(frozen=True)
class _Found:
    """Passages that were read again, best first, how many tokens that took, and what confidences of them mean."""

    passages: tuple[Passage, ...]
    tokens: int
    limits: Thresholds


def _reread(asked: evidence.Asked, material: Material, reading: Reading) -> _Found:
    """Read the passages again that suit a question best by words, and by stored vectors where there are any."""
    words, parts = word_scores(asked, material)
    vector = vectors.isolated(reading.engine, [asked.question.text])[0]
    chosen = candidates(words, parts, asked, material, vector)
    tokens = len(reading.engine.model.tokenizer.encode(asked.question.text))
    read = []
    for place in chosen:
        lines = material.passage(place)
        state = reading.state(lines[0].doc_id)
        read.append(vectors.read_together(reading.engine, state, [line.text for line in lines]))
    near = [float((one.vectors.astype(np.float64) @ vector).max()) for one in read]
    tokens += sum(len(one.owner) for one in read)
    fused = of_passages(words[chosen], parts[chosen], np.array(near))
    scored, limits = sentences(chosen, words, asked, material), thresholds()
    reader = reader_of(reading.engine, material.language)
    if reader is not None and not _keyed(scored, asked, material):
        question = vectors.read_together(reading.engine, reading.engine.model.initial_state(), [asked.question.text])
        tokens += len(question.owner)
        firsts = [material.passages[place][0] for place in chosen]
        scored, limits = with_reader(reader, question, scored, read, firsts), thresholds_of(reader)
    passages = [
        Passage(material.passage(place), material.lines[one.best[0]], float(suits), confidence(one.best[1]))
        for place, suits, one in zip(chosen, fused, scored, strict=True)
    ]
    return _Found(tuple(passages[at] for at in best(fused, len(chosen))), tokens, limits)


def _keyed(scored: Sequence[Scored], asked: evidence.Asked, material: Material) -> bool:
    """Whether the likeliest sentence by words stands under the key asked for: of forms, words know more."""
    place, _ = max((one.best for one in scored), key=lambda one: one[1])
    return evidence.share_of_key(place, asked, material) >= KEYED


def sentences(
    chosen: Sequence[int], words: NDArray[np.float64], asked: evidence.Asked, material: Material
) -> list[Scored]:
    """The sentences of each passage that may be quoted, and what speaks for each by words."""
    standing = evidence.Standing.of(chosen, words, asked, material)
    found = []
    for passage in chosen:
        places = material.sayings(passage)
        scores = [score(evidence.of_sentence(place, passage, asked, material, standing)) for place in places]
        found.append(Scored(tuple(places), np.array(scores)))
    return found


def word_scores(asked: evidence.Asked, material: Material) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """BM25 of each passage as a whole [n] and of its best sentence [n], by the question's words and related ones."""
    wanted = dict.fromkeys(asked.question.terms, 1.0)
    related = list(asked.related.items())[:RELATED_WORDS]
    for word, worth in related:
        wanted.setdefault(word, RELATED_WEIGHT * worth / related[0][1])
    firsts = [first for first, _ in material.passages]
    return material.whole.scores(wanted), np.maximum.reduceat(material.parts.scores(wanted), firsts)


def candidates(
    words: NDArray[np.float64],
    parts: NDArray[np.float64],
    asked: evidence.Asked,
    material: Material,
    vector: NDArray[np.float32] | None = None,
) -> list[int]:
    """Places of the passages to be read again: the best by words, those that define where that is asked, and the best
    by stored vectors where there are any that the question's [dimensions] can be compared with."""
    chosen = best_apart(of_passages(words, parts, None), REREAD)
    chosen += evidence.defining(asked, material)[:DEFINING]
    stored = material.lines[0].vector
    if vector is not None and stored is not None and stored.shape == vector.shape:
        near = np.array([_nearest(material.passage(place), vector) for place in range(len(words))])
        fused = of_passages(words, parts, near)
        chosen = [*best_apart(fused, REREAD), *chosen[: REREAD // 2], *chosen[REREAD:]]
    return list(dict.fromkeys(chosen))


def _nearest(lines: Sequence[Line], vector: NDArray[np.float32]) -> float:
    return max(float(line.vector @ vector) for line in lines if line.vector is not None)


def _value(quote: Line, asked: evidence.Asked) -> Value | None:
    """The stretch of a quote that is of the kind asked for and stands nearest behind, or else near, the words asked."""
    span = evidence.nearest_value(quote.text, asked)
    if span is None:
        return None
    start, end = span
    return Value(quote.text[start:end], quote.char_start + start, quote.char_start + end)


def _summary(question: str, material: Material, state_sha256: str) -> Answer:
    """What a text is about, in sentences of its own."""
    lens = Lens(material.find_terms, Query(), "0")
    sentences = [Candidate(at, line.char_start, line.char_end, line.text) for at, line in enumerate(material.lines)]
    chosen = Selection.empty(lens.query).seen(sentences, lens).choose(Budget(PASSAGES), lens)
    lines = [material.lines[one.candidate.index] for one in chosen]
    passages = tuple(Passage((line,), line, 0.0, 1.0) for line in lines)
    return Answer(question, ANSWERED, SUMMARY, None, None, 1.0, passages, 0, state_sha256)
