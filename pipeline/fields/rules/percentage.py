"""Shares: `12.5%`, `-3%`, `2 1/2%`, `five percent (5%)`, `50 basis points`. The value is a number of percent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from pipeline.fields.numbers import DIGITS, FRACTIONS, MINUS, WORDS, number, plain, spelled
from pipeline.fields.rules import Match

TYPE: Final = "percentage"

_PERCENTAGE: Final = re.compile(
    rf"(?<![\w.,])(?:(?P<words>{WORDS})\s?per\s?cent\b(?:\s?\(\s?(?P<both>{DIGITS})\s?%\s?\))?"
    rf"|(?P<minus>{MINUS})?(?P<digits>{FRACTIONS}|{DIGITS})\s?"
    rf"(?P<unit>%|percent\b|per cent\b|Prozent\b|basis points\b))",
    re.IGNORECASE,
)


def find(text: str) -> Iterator[Match]:
    """The shares in a text."""
    for found in _PERCENTAGE.finditer(text):
        given = found["both"] or found["digits"]
        words = spelled(found["words"]) if found["words"] else None
        amount = number(given) if given else Decimal(words) if words else None
        if amount is None:
            continue
        amount = -amount if found["minus"] else amount
        if (found["unit"] or "").lower() == "basis points":
            amount /= 100
        yield Match(found.start(), found.end(), float(amount), plain(amount), 0.95)
