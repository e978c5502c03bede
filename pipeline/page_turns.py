"""Sentences that go on over the end of a page: known by the last line of one page and the first of the next.

A sentence is taken to go on only where both lines say so and neither is a running head or foot, a page's number, a row
of a table or a note below the text: what is joined wrongly is worse than what is left parted. Pages are compared with
their neighbours alone, so memory is bounded. Knows nothing of formats.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from pipeline.running_lines import shape

_BEFORE: Final = 2
_ENDED: Final = re.compile(r"[.!?:…。！？][\"'”’»)\]]*\s?\d{0,4}\Z")
"""How a line ends with which a sentence may end, the mark of a note included."""
_ROMAN: Final = re.compile(r"\W{0,3}[ivxlc]+\W{0,3}")
_COLUMNS: Final = re.compile(r"\S(?:[ \xa0]{3,}|\t)\S|\.[ .]{4,}")
_ITEM: Final = re.compile(r"\W?(?:[a-z]{1,4}|\d[\d.]*)[.)](?:\s|\Z)|\S*(?:://|@|www\.)")
_OPEN: Final = re.compile(
    r"(?:,|\b(?:the|an?|of|to|by|for|and|or|in|on|at|with|from|as|into|under|between|which|that|such|any|each|its|their|"
    r"this|shall|will|may|not|be|is|are|has|have))\Z"
)
"""What no sentence ends with."""
_SHORT: Final = 40
_NOTES_WITHIN: Final = 25
_NOTE: Final = re.compile(r"(\d{1,4})\s?[^\W\d_“\"(]")


def with_turns(pages: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each page, and whether its last sentence goes on with the first words of the next. One page is read ahead."""
    window: deque[str] = deque(("",) * (_BEFORE + 1), maxlen=_BEFORE + 2)
    for number, page in enumerate(chain(pages, ("",))):
        window.append(page)
        if number:
            yield window[_BEFORE], _goes_on(*window)


def _goes_on(two_before: str, before: str, page: str, following: str) -> bool:
    """Whether the sentence at the end of a page goes on at the beginning of the following one."""
    if not page or not following:
        return False
    last, first = _line(page, -1), _line(following, 0)
    if _ENDED.search(last) or _ITEM.match(first) or _COLUMNS.search(f"{last}\n{first}"):
        return False
    if not _is_prose(last) or not _begins_within(first, last) or _has_notes(page):
        return False
    feet = {shape(_line(other, -1)) for other in (two_before, before, following)}
    heads = {shape(_line(other, 0)) for other in (before, page)}
    return shape(last) not in feet and shape(first) not in heads


def _line(page: str, place: int) -> str:
    """The first or the last line of a page."""
    return (page.split("\n", 1)[0] if place == 0 else page.rsplit("\n", 1)[-1]).strip()


def _is_prose(line: str) -> bool:
    """Whether a line is of running text: with small letters, and no short one with a figure or a page's number."""
    if not any(character.islower() for character in line):
        return False
    return len(line) >= _SHORT or not (any(one.isdigit() for one in line) or _ROMAN.fullmatch(line))


def _begins_within(first: str, last: str) -> bool:
    """Whether a page begins with what stands within a sentence: a small letter, or a name behind a word that waits."""
    if first[:1].islower():
        return True
    return first[:1].isalpha() and any(one.islower() for one in first) and _OPEN.search(last) is not None


def _has_notes(page: str) -> bool:
    """Whether notes stand below the text: a line begins with a number that is also a mark in the text."""
    lines = page.split("\n")
    for line in lines[-_NOTES_WITHIN:]:
        note = _NOTE.match(line)
        if note and re.search(rf"[^\W\d_][.,;:]?[\"'”’)]?{note[1]}(?!\d)", page):
            return True
    return False
