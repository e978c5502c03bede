"""What speaks for a sentence as the answer to a question: the features that confidence is made of.

All of it is words, places and patterns; no model. Knows nothing of weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.answers.material import Material, is_key
from pipeline.answers.questions import DEFINITION, NAME, REASON, ROLE, YES_NO, Question
from pipeline.answers.related import related
from pipeline.fields.rules import finders
from pipeline.retrieval.terms import Terms

Features = NDArray[np.float64]

FEATURES: Final = (
    *("constant", "told", "untold", "covered", "all covered", "long and covered", "around", "nowhere", "unnamed"),
    *("head", "head or related", "tail", "tail around", "tail before", "head and tail"),
    *("related", "related around", "related and tail"),
    *("valued", "valued head", "defines", "defines not", "reasons", "reasons not", "key"),
    *("lead", "standing", "close", "bare", "words", "long question", "yes or no"),
)
"""What is counted, in order. Words and their shares weigh by rarity.

told, untold: the logarithm of what the sentence has, and lacks, of what the question's words tell; covered: its share,
all of it, and the share times the logarithm of the whole; around: that of the passage with a sentence on each side;
nowhere: that of no sentence of the text; unnamed: the share of the question's names that the text has not. head, tail:
the share of what is wanted, and of what it is wanted of, in the sentence, around it, and how near before it. related:
words that answers have instead. valued: it has a value of the kind wanted. defines, reasons: it says what something is,
or why, where that is asked. key: it is a line `key: value` whose key is asked for. lead, standing: the passage's score
less that of the best one apart, and beside the best. close: how close the words asked for stand together. bare: it says
little but these words. words: the logarithm of its length. long question: that of all that the question's words tell.
"""

_NAME: Final = re.compile(r"\b[A-Z][\w’'&.-]*(?: (?:of |de |van |von |and |the )?[A-Z][\w’'&.-]*)*")
_FIGURE: Final = re.compile(
    r"(?<!\w)\d[\d,.]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million|billion|"
    r"half|third|quarter|twice|once)s?\b",
    re.IGNORECASE,
)
_REQUIRED: Final = frozenset(("date", "duration", "money", "number", "percentage", "email", "url", "iban"))
"""What no answer to a question for it can do without."""

_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_ORDINAL: Final = r"\d{1,2}(?:st|nd|rd|th)?"
_WHEN: Final = re.compile(
    rf"\b(?:1[0-9]|20)\d\d\b|\b{_MONTH}\.? {_ORDINAL}\b|\b{_ORDINAL} (?:of )?{_MONTH}\b|"
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:noon|midnight|today|tomorrow|yesterday)\b|"
    r"\b(?:[01]?\d|2[0-3]):[0-5]\d\b|\b1?\d ?(?:[ap]\.?m\b|o['’]clock\b)",
    re.IGNORECASE,
)
"""A year, a day of one, a day of the week, a time of day: what answers to `when` have that `extract` calls no date."""
_REASON: Final = re.compile(
    r"\b(?:because|due to|caus\w+|since|reasons?|results?|resulting|leads? to|so that|in order to|by \w+ing|using|"
    r"therefore|owing to|thanks to)\b",
    re.IGNORECASE,
)
_IS: Final = re.compile(
    r"(?:\b(?:is|are|was|were)(?! not\b)(?: (?:a|an|the|any|one|when|where|defined|called|named|known|used)\b|"
    r" [\w-]+ )|\b(?:means?|refers? to|denotes?|stands? for|consists? of|describes?)\b|[\"”)]\s*[:=—–-]|"
    r"^[^.:]{2,60}: )",
    re.IGNORECASE,
)
_SAYS_MORE: Final = 3
_ALL: Final = 0.99
_MOST: Final = 0.5
_REACH: Final = 30
_FADING: Final = 4
_MOSTLY: Final = 0.6
_SAME_STEM: Final = 0.5
"""What a definition of another word with the same stem is worth: who asks for the borrower is not told of borrowing."""

_STEM: Final = 5
"""Letters by which a stem is looked for in a text."""

_GIVEN: Final = re.compile(r"\((?:[^()\"“”]{0,60}\s)?[\"“]([^\"“”]{2,40})[\"”][^()]{0,60}\)")
_KEYED: Final = re.compile(r"^\W*([^:|\t]{2,60}?)\s*[:|\t]\s*(\S.*)?$", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """A question as one text sees it: how much each of its words tells there, and words that answers have instead."""

    question: Question
    rarity: Mapping[str, float]
    related: Mapping[str, float]

    @classmethod
    def of(cls, question: Question, material: Material) -> Asked:
        found = related(question.terms, material.language)
        return cls(question, {term: material.rarity(term) for term in question.terms}, found)

    @property
    def total(self) -> float:
        return max(sum(self.rarity.values()), 1e-9)

    def matched(self, terms: frozenset[str]) -> float:
        """How much of what the question's words tell is among these terms."""
        return sum(weight for term, weight in self.rarity.items() if term in terms)

    @property
    def head(self) -> Mapping[str, float]:
        """What says what is wanted, with its rarity."""
        return {term: weight for term, weight in self.rarity.items() if term in self.question.head}

    @property
    def tail(self) -> Mapping[str, float]:
        """What says of what it is wanted, with its rarity."""
        return {term: weight for term, weight in self.rarity.items() if term not in self.question.head}

    @staticmethod
    def share(terms: frozenset[str], wanted: Mapping[str, float]) -> float:
        """How much of what some words tell is among these terms; all of it where there are no such words."""
        total = sum(wanted.values())
        return sum(weight for term, weight in wanted.items() if term in terms) / total if total else 1.0

    def likeness(self, terms: frozenset[str]) -> float:
        """The worth of the related words among these terms, over that of the best four."""
        if not self.related:
            return 0.0
        best = sum(list(self.related.values())[:4])
        return min(sum(worth for word, worth in self.related.items() if word in terms) / best, 1.5)


def values_in(text: str, question: Question) -> Iterator[tuple[int, int]]:
    """The stretches of a text that are of the kind that a question wants, as character spans."""
    for kind in question.types:
        yield from _of_kind(text, kind, question)


def lacks_value(text: str, question: Question) -> bool:
    """Whether a question wants a date, a quantity or an address, and a text has none of that kind."""
    return bool(set(question.types) & _REQUIRED) and next(values_in(text, question), None) is None


def _of_kind(text: str, kind: str, question: Question) -> Iterator[tuple[int, int]]:
    if kind == NAME:
        yield from _names(text, question)
    elif kind == "number":
        yield from (found.span() for found in _FIGURE.finditer(text))
    else:
        yield from ((match.start, match.end) for match in finders()[kind](text))
    if kind == "date":
        yield from (found.span() for found in _WHEN.finditer(text))


def _names(text: str, question: Question) -> Iterator[tuple[int, int]]:
    own = question.text.lower()
    for found in _NAME.finditer(text):
        if found[0].lower().rstrip(".") not in own and (found.start() or " " in found[0]):
            yield found.span()


def defines(text: str, asked: Asked, terms: Terms) -> float:
    """How well a sentence says what, or who, the question's words are, in [0, 1].

    They stand in front of what says it, the fewer other words the better, or as a name given: `… (the "Borrower")`.
    """
    said = [found[1] for found in _GIVEN.finditer(text)]
    if found := _IS.search(text):
        said.append(text[: found.end() if found[0].endswith(": ") else found.start()])
    return max((_likeness_of_name(one, asked, terms) for one in said), default=0.0)


def _likeness_of_name(name: str, asked: Asked, terms: Terms) -> float:
    """How much of a name is what was asked for; 0 if it lacks much of that."""
    own = frozenset(terms(name))
    if asked.matched(own) < _MOSTLY * asked.total:
        return 0.0
    share = sum(1 for term in own if term in asked.rarity) / len(own)
    return share if any(word in name.lower() for word in asked.question.words) else share * _SAME_STEM


def nearest_value(text: str, asked: Asked) -> tuple[int, int] | None:
    """The stretch of a text that is of the first kind wanted that is there, and stands nearest to a word asked for.

    What stands behind the word is preferred. Names are not looked for: too many words are written like one.
    """
    lowered = text.lower()
    places = [lowered.find(term[:_STEM]) for term in asked.rarity]
    said = [place for place in places if place >= 0]

    def distance(span: tuple[int, int]) -> float:
        return min((span[0] - place if span[0] >= place else 3 * (place - span[0]) for place in said), default=span[0])

    for kind in asked.question.types:
        if kind != NAME and (found := list(_of_kind(text, kind, asked.question))):
            return min(found, key=distance)
    return None


def defining(asked: Asked, material: Material) -> list[int]:
    """Places of the passages with a sentence that says what the question's words are, best first, if that is asked."""
    if asked.question.kind not in (DEFINITION, ROLE):
        return []
    found: dict[int, float] = {}
    for place, (first, last) in enumerate(material.passages):
        for at in range(first, last):
            if asked.matched(material.terms[at]) >= _MOSTLY * asked.total:
                defined = defines(material.lines[at].text, asked, material.find_terms)
                found[place] = max(defined, found.get(place, 0.0))
    return [place for place in sorted(found, key=lambda one: (-found[one], one)) if found[place] > 0]


def key_share(text: str, asked: Asked, terms: Terms) -> float:
    """How well the key of a line `key: value` is what is asked for: the share of words in common, or 0."""
    found = _KEYED.match(text)
    if found is None:
        return 0.0
    key = frozenset(terms(found[1]))
    common = sum(1 for term in key if term in asked.rarity)
    return common / len(key) * asked.share(key, asked.head) if key else 0.0


def of_sentence(place: int, passage: int, asked: Asked, material: Material, standing: Standing) -> Features:
    """What speaks for a sentence [features]: the `place`-th, in the `passage`-th passage."""
    line, question = material.lines[place], asked.question
    own, near = _held(place, passage, material)
    covered, head = asked.matched(own) / asked.total, asked.share(own, asked.head)
    return np.array(
        (
            1.0,
            *_words(covered, near, asked, standing),
            *_parts(place, own, near, head, asked, material),
            *_kind(line.text, head, asked, material.find_terms),
            share_of_key(place, asked, material),
            standing.lead[passage],
            standing.score[passage],
            _closeness(line.text, asked, material) * asked.matched(own) / asked.total,
            float(len(material.terms[place] - set(question.terms)) < _SAYS_MORE),
            math.log1p(len(material.terms[place])),
            math.log1p(asked.total),
            float(question.kind == YES_NO),
        )
    )


def _held(place: int, passage: int, material: Material) -> tuple[frozenset[str], frozenset[str]]:
    """The terms of a sentence with its key and heading, and those of its passage with a sentence on each side."""
    first, last = material.passages[passage]
    own = material.named(place).union(material.find_terms(material.lines[place].section or ""))
    return own, own.union(*material.terms[max(first - 1, 0) : last + 1])


def _words(covered: float, near: frozenset[str], asked: Asked, standing: Standing) -> tuple[float, ...]:
    """From `told` to `unnamed`."""
    return (
        math.log1p(covered * asked.total),
        math.log1p((1 - covered) * asked.total),
        covered,
        float(covered > _ALL),
        math.log1p(asked.total) * covered,
        asked.matched(near) / asked.total,
        standing.nowhere,
        standing.unnamed,
    )


def _parts(
    place: int, own: frozenset[str], near: frozenset[str], head: float, asked: Asked, material: Material
) -> tuple[float, ...]:
    """From `head` to `related and tail`."""
    tail = asked.tail
    tail_near, related = asked.share(near, tail), asked.likeness(own)
    return (
        head,
        max(head, min(related, 1.0)),
        asked.share(own, tail),
        tail_near,
        _tail_before(place, tail, material),
        head * tail_near,
        related,
        asked.likeness(near),
        related * tail_near,
    )


def _kind(text: str, head: float, asked: Asked, terms: Terms) -> tuple[float, ...]:
    """From `valued` to `reasons not`."""
    question = asked.question
    has_value = bool(question.types) and next(values_in(text, question), None) is not None
    is_asked = question.kind in (DEFINITION, ROLE)
    defined = defines(text, asked, terms) if is_asked else 0.0
    has_reason = question.kind == REASON and _REASON.search(text) is not None
    return (
        float(has_value),
        float(has_value) * head,
        defined,
        float(is_asked and not defined),
        float(has_reason),
        float(question.kind == REASON and not has_reason),
    )


def _tail_before(place: int, tail: Mapping[str, float], material: Material) -> float:
    """How near the last sentence is, up to this one, that has most of what is asked of: 1 if it is this one."""
    for distance in range(min(_REACH, place + 1)):
        if Asked.share(material.terms[place - distance], tail) >= _MOST:
            return 1 / (1 + distance / _FADING)
    return 0.0


def share_of_key(place: int, asked: Asked, material: Material) -> float:
    """How much of what is asked for the key of a sentence has: its own, or the line before it."""
    own = key_share(material.lines[place].text, asked, material.find_terms)
    return max(own, _key_above(place, asked, material))


def _key_above(place: int, asked: Asked, material: Material) -> float:
    if not place or not is_key(material.lines[place - 1].text):
        return 0.0
    return key_share(material.lines[place - 1].text, asked, material.find_terms)


def _closeness(text: str, asked: Asked, material: Material) -> float:
    """How close together the words asked for stand: their share of the shortest stretch with all that are there."""
    places = [(at, term) for at, term in enumerate(material.find_terms(text)) if term in asked.rarity]
    wanted = {term for _, term in places}
    if len(wanted) < 2:
        return float(len(wanted))
    shortest, latest = len(text), dict[str, int]()
    for at, term in places:
        latest[term] = at
        if len(latest) == len(wanted):
            shortest = min(shortest, at - min(latest.values()) + 1)
    return len(wanted) / shortest


@dataclass(frozen=True)
class Standing:
    """How passages stand to each other: `score` and `lead` over the best of the others that is apart, by passage.

    `nowhere` is the share of what the question's words tell that stands nowhere in the text, `unnamed` that of its
    names.
    """

    score: Mapping[int, float]
    lead: Mapping[int, float]
    nowhere: float
    unnamed: float

    @classmethod
    def of(cls, chosen: Sequence[int], scores: NDArray[np.float64], asked: Asked, material: Material) -> Standing:
        top = float(scores.max()) if len(scores) else 0.0
        lead = {}
        for place in chosen:
            others = [scores[other] for other in chosen if abs(other - place) > 1]
            lead[place] = float(scores[place] - max(others, default=0.0)) / max(top, 1e-9)
        absent = {term: weight for term, weight in asked.rarity.items() if not material.parts.having(term)}
        unnamed = sum(term in absent for term in asked.question.names) / max(len(asked.question.names), 1)
        standing = {place: float(scores[place]) / max(top, 1e-9) for place in chosen}
        return cls(standing, lead, sum(absent.values()) / asked.total, unnamed)
