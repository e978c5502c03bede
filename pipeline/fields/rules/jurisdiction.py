"""Whose law governs: `the laws of the State of New York` → `New York`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match
from pipeline.fields.values import squeezed

TYPE: Final = "jurisdiction"

_NAME: Final = r"(?:(?:[A-Z]\.){2,}|St\.|[A-Z][\w’'-]*)"
_PLACE: Final = rf"{_NAME}(?:\s(?:of|and|the)(?=\s[A-Z])|\s{_NAME}){{0,5}}"
_LAWS: Final = re.compile(
    rf"\b[Ll]aws?\s(?:and\sregulations\s)?(?:of|in(?:\sforce\sin|\seffect\sin)?)\s(?P<of>(?:[Tt]he\s)?{_PLACE})"
    rf"|\bthe\s(?P<own>(?:[A-Z][\w-]+\s){{1,3}})laws?\b"
    rf"|\b(?P<adjective>English|German|French|Swiss|Dutch|Israeli|Indian|Japanese)\slaws?\b",
)
_FORM: Final = re.compile(
    r"^(?:the\s)?(?:(?:State|Commonwealth|Province|Republic|Kingdom|Country)\sof\s)?(?:the\s)?", re.IGNORECASE
)
_NO_PLACE: Final = re.compile(r"^(?:Applicable|Governing|Federal|State|Securities|Tax|Patent|Copyright)\b", re.I)


def find(text: str) -> Iterator[Match]:
    """The places whose laws a text names."""
    for found in _LAWS.finditer(text):
        group = next(name for name in ("of", "own", "adjective") if found[name])
        start = found.start(group)
        written = found[group].rstrip(" .,;’'")
        if _NO_PLACE.match(written):
            continue
        place = _FORM.sub("", squeezed(written))
        near = text[max(0, start - 160) : start].lower()
        governs = any(word in near for word in ("govern", "constru", "interpret", "subject to", "accordance"))
        if place:
            yield Match(start, start + len(written), place, place.lower(), 0.9 if governs else 0.3)
