"""Finds the values of one field in a stretch of text, and says how likely each is meant. Knows nothing of documents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import regex

from pipeline.errors import DocumentError
from pipeline.fields.calibration import confidence
from pipeline.fields.field import CLAUSE, NEXT_CUE, Field
from pipeline.fields.rules import Match, finders
from pipeline.fields.stretches import Piece, Stretch
from pipeline.fields.values import squeezed
from pipeline.retrieval.terms import terms_of

PATTERN_SECONDS: Final = 2.0
_BEFORE: Final = 240
_BEHIND: Final = 100
_LEAD: Final = 40
_NEAR: Final = 90.0
_IN_A_WORD: Final = 0.5
_START_CHARS: Final = 3000.0
_VALUE_CHARS: Final = 300
_NEXT_PATTERN: Final = 0.94
_CLAUSE_WORDS: Final = 8
_LONG_CLAUSE: Final = 400
_PART_END: Final = regex.compile(r"[.;](?=\s+[A-Z\d(\"“])\s+|\n\s*\n\s*")


@dataclass(frozen=True)
class Found:
    """A value of a field in the document: text[char_start:char_end] is its quote."""

    match: Match
    char_start: int
    char_end: int
    quote: str
    page: int | None
    sentence: int
    score: float

    @property
    def confidence(self) -> float:
        return confidence(self.score)


def find(field: Field, stretch: Stretch, language: str) -> list[Found]:
    """The values of a field that begin in the core of a stretch, in the order of the text.

    Raises DocumentError if a pattern of the user takes too long over the text.
    """
    found: list[Found] = []
    for match in _without_overlaps(_matches(field, stretch)):
        start = stretch.base + match.start
        if not (stretch.core_start <= start < stretch.core_end) or not _meets(field, match):
            continue
        piece = stretch.piece_at(start)
        score = match.weight * _context(field, stretch, match, piece, language)
        quote = stretch.text[match.start : match.end]
        found.append(Found(match, start, stretch.base + match.end, quote, piece.page_at(start), piece.index, score))
    return found


def _matches(field: Field, stretch: Stretch) -> Iterator[Match]:
    exact = [*_by_keys(field, stretch.text), *_by_values(field, stretch.text), *_by_patterns(field, stretch.text)]
    if field.type == CLAUSE:
        for match in exact:
            yield _sentence_around(stretch, match)
        return
    yield from exact
    if field.type in finders() and not (field.keys or field.values or field.patterns):
        yield from finders()[field.type](stretch.text)


def _by_patterns(field: Field, text: str) -> Iterator[Match]:
    """What the user's patterns match: their first group, or all if they have none. The first pattern weighs most."""
    for place, written in enumerate(field.patterns):
        pattern, weight = _pattern(written), 0.9 * _NEXT_PATTERN**place
        try:
            for found in pattern.finditer(text, timeout=PATTERN_SECONDS):
                group = 1 if pattern.groups and found.span(1)[0] >= 0 else 0
                start, end = found.span(group)
                yield from _typed(field, text, start, end, weight)
        except TimeoutError:
            raise DocumentError(
                "read",
                "pattern_timeout",
                f"the pattern {written!r} of the field {field.name} takes more than {PATTERN_SECONDS:g} s over "
                f"{len(text):,} characters; write one that does not repeat repetitions",
            ) from None


def _by_values(field: Field, text: str) -> Iterator[Match]:
    """Words of the user's list, whole and whatever their case."""
    if field.values:
        names = {word.lower(): name for name, words in field.values for word in words}
        for found in _dictionary(field.values).finditer(text):
            name = names[squeezed(found[0]).lower()]
            yield Match(found.start(), found.end(), name, name, 0.9)


def _by_keys(field: Field, text: str) -> Iterator[Match]:
    """What stands behind one of the user's keys and a colon, to the end of the line."""
    if field.keys:
        for found in _keyed(field.keys).finditer(text):
            yield from _typed(field, text, found.start(1), found.end(1), weight=0.95)


def _typed(field: Field, text: str, start: int, end: int, weight: float) -> Iterator[Match]:
    """A stretch as a value: what the field's rule reads in it, or the words as they stand if it has no rule."""
    written = text[start:end]
    start += len(written) - len(written.lstrip())
    end = start + len(written.strip())
    if start >= end:
        return
    rule = finders().get(field.type)
    if rule is None:
        yield Match(start, end, squeezed(text[start:end]), squeezed(text[start:end]).lower(), weight)
        return
    # Where it says nothing by itself, the words in front may: `Datum: 3.5.21` is a day, `3.5.21` need not be one.
    for begin in (start, max(0, start - _LEAD)):
        for match in rule(text[begin:end]):
            if begin + match.start >= start:
                yield Match(begin + match.start, begin + match.end, match.value, match.normalized, weight)
                return


def _sentence_around(stretch: Stretch, match: Match) -> Match:
    piece = stretch.piece_at(stretch.base + match.start)
    start, end = piece.sentence_start - stretch.base, piece.char_end - stretch.base
    if end - start > _LONG_CLAUSE:
        start, end = _part_around(stretch.text, start, end, match)
    quote = squeezed(stretch.text[start:end])
    # A heading has the words of its section, but says nothing of it.
    said = 0.97 + 0.03 * (match.end - match.start) / max(end - start, 1)
    weight = match.weight * min(1.0, len(quote.split()) / _CLAUSE_WORDS) * min(said, 1.0)
    return Match(start, end, quote, quote.lower(), weight)


def _part_around(text: str, start: int, end: int, match: Match) -> tuple[int, int]:
    """The part of a sentence that a match lies in, where a text without line ends joined several into one."""
    ends = [found.end() for found in _PART_END.finditer(text, start, end)]
    before = [place for place in ends if place <= match.start]
    behind = [place for place in ends if place >= match.end]
    start = before[-1] if before else start
    end = behind[0] if behind else end
    return start, start + len(text[start:end].rstrip())


def _without_overlaps(matches: Iterator[Match]) -> list[Match]:
    """Of matches that overlap, the surer and then the longer one; in the order of the text."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda one: (-one.weight, one.start - one.end, one.start)):
        if all(match.end <= other.start or other.end <= match.start for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda one: one.start)


def _meets(field: Field, match: Match) -> bool:
    """Whether a value is within the field's limits."""
    if field.max_chars is not None and match.end - match.start > field.max_chars:
        return False
    if field.minimum is None and field.maximum is None:
        return True
    value = _comparable(match)
    limits = (field.minimum, field.maximum)
    low, high = (type(value)(limit) if limit is not None else value for limit in limits)
    return bool(low <= value <= high)


def _comparable(match: Match) -> Any:
    """Numbers and sums as numbers, dates as text, which orders them."""
    if isinstance(match.value, dict):
        return float(match.value["amount"])
    return float(match.value) if isinstance(match.value, int | float) else match.normalized


def _context(field: Field, stretch: Stretch, match: Match, piece: Piece, language: str) -> float:
    """How well the place suits the field, in (0, 1]."""
    place = 1.0
    if field.at_start:
        place = 0.25 + 0.75 * math.exp(-(stretch.base + match.start) / _START_CHARS)
    if field.cues and field.type == CLAUSE:
        return place * (0.4 + 0.6 * min(1.0, 1.5 * _share_of_cues(field, match, language)))
    if field.cues:
        return place * (0.3 + 0.7 * _closeness(field.cues, stretch.text, match))
    if field.description and field.type != CLAUSE:
        return place * (0.8 + 0.2 * _likeness(field.description, stretch, match, language))
    return place


def _closeness(cues: tuple[str, ...], text: str, match: Match) -> float:
    """1 if a cue stands right before the match, less the further away it is or if it stands behind.

    A cue that is the end of another word says half as much: a subtotal is no total.
    """
    before = text[max(0, match.start - _BEFORE) : match.start].lower()
    behind = text[match.start : match.end + _BEHIND].lower()
    best = 0.0
    for cue in cues:
        for end, share in _places(cue.lower(), before):
            best = max(best, share * math.exp(-(len(before) - end) / _NEAR))
        for _, share in _places(cue.lower(), behind):
            best = max(best, share * 0.8)
    return best


def _places(word: str, text: str) -> Iterator[tuple[int, float]]:
    """Where a cue ends in a text, and what it counts there."""
    place = text.find(word)
    while place >= 0:
        is_part = place > 0 and (text[place - 1].isalnum() or text[place - 1] == "-")
        yield place + len(word), _IN_A_WORD if is_part else 1.0
        place = text.find(word, place + 1)


def _share_of_cues(field: Field, match: Match, language: str) -> float:
    """How much of the cues a clause has, the first of which weigh most."""
    terms = terms_of(language)
    there = set(terms(match.normalized))
    weights = {term: NEXT_CUE**place for place, cue in enumerate(field.cues) for term in terms(cue)}
    return sum(weight for term, weight in weights.items() if term in there) / max(sum(weights.values()), 1e-9)


def _likeness(description: str, stretch: Stretch, match: Match, language: str) -> float:
    """The share of a description's words that stand around a match."""
    terms = terms_of(language)
    wanted = set(terms(description))
    around = stretch.text[max(0, match.start - _BEFORE) : match.end + _BEHIND]
    return len(wanted & set(terms(around))) / len(wanted) if wanted else 1.0


@lru_cache(maxsize=256)
def _pattern(written: str) -> Any:
    return regex.compile(written, regex.MULTILINE)


@lru_cache(maxsize=256)
def _dictionary(values: tuple[tuple[str, tuple[str, ...]], ...]) -> Any:
    words = sorted({word for _, given in values for word in given}, key=len, reverse=True)
    spaced = [r"\s+".join(map(regex.escape, word.split())) for word in words]
    return regex.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)", regex.IGNORECASE)


@lru_cache(maxsize=256)
def _keyed(keys: tuple[str, ...]) -> Any:
    words = "|".join(r"\s+".join(map(regex.escape, key.split())) for key in sorted(keys, key=len, reverse=True))
    behind = rf"[ \t*_]*[:=|][ \t*_|]*([^\n|]{{1,{_VALUE_CHARS}}})"
    return regex.compile(rf"(?:^|[\n|;,\t]|\s{{2}})[ \t*_]*(?:{words}){behind}", regex.IGNORECASE)
