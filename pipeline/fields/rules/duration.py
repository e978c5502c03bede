"""Lengths of time: `thirty (30) days`, `6 months`, `1 1/2 years`, `a two-year term`.

Normalised to ISO 8601: `P30D`, `P6M`, `P1.5Y`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.numbers import DIGITS, FRACTIONS, WORDS, number, plain, spelled
from pipeline.fields.rules import Match

TYPE: Final = "duration"

_UNITS: Final = {
    "second": "PT{}S",
    "minute": "PT{}M",
    "hour": "PT{}H",
    "day": "P{}D",
    "week": "P{}W",
    "month": "P{}M",
    "quarter": "P{}M",
    "year": "P{}Y",
}
_DURATION: Final = re.compile(
    rf"(?<![\w.,$€£])(?:(?P<words>{WORDS})\s?(?:\(\s?(?P<both>\d+)\s?\))?|(?P<digits>{FRACTIONS}|{DIGITS}))"
    rf"(?:\s|-)(?:(?:business|calendar|consecutive|full|working|additional)\s)?(?P<unit>{'|'.join(_UNITS)})s?\b",
    re.IGNORECASE,
)


def find(text: str) -> Iterator[Match]:
    """The lengths of time in a text."""
    for found in _DURATION.finditer(text):
        given = found["both"] or found["digits"]
        words = spelled(found["words"]) if found["words"] else None
        amount = number(given) if given else words
        if amount is None:
            continue
        unit = found["unit"].lower()
        value = _UNITS[unit].format(plain(amount * 3 if unit == "quarter" else amount))
        yield Match(found.start(), found.end(), value, value, 0.85)
