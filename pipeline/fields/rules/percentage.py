"""Shares: `12.5%`, `-3%`, `2 1/2%`, `five percent (5%)`, `1/2 of 1%`, `50 basis points`. As numbers of percent.

`3,125%` is ambiguous, and read as English has it: more than three thousand. It is a little over three where the text
says so: by a space in front of the sign or the word `Prozent`, or by shares and sums nearby with a decimal comma.
Shares nearby with a decimal point speak against all of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from pipeline.fields.numbers import DIGITS, FRACTIONS, MINUS, PARTS, WORDS, number, part, plain, spelled
from pipeline.fields.rules import Match

TYPE: Final = "percentage"

_PERCENTAGE: Final = re.compile(
    rf"(?<![\w.,])(?:(?P<part>{PARTS})\s(?:of\s(?:1|one|an?)|an?)\s?(?:%|per\s?cent\b)(?:\s?\(\s?[\d/.,½¼¾⅛]{{1,8}}\s?%\s?\))?"
    rf"|(?P<words>{WORDS})\s?per\s?cent\b(?:\s?\(\s?(?P<both>{DIGITS})\s?%\s?\))?"
    rf"|(?P<minus>{MINUS})?(?P<digits>{FRACTIONS}|{DIGITS})(?P<space>\s?)"
    rf"(?P<unit>%|percent\b|per cent\b|Prozent\b|basis points\b))",
    re.IGNORECASE,
)
_ONE_COMMA: Final = re.compile(r"\d{1,3},\d{3}")
_SHARE_BEHIND: Final = r"\s?(?:%|per\s?cent\b|Prozent\b)"
_BY_POINT: Final = re.compile(rf"\d\.\d+{_SHARE_BEHIND}|\d,\d{{3}}\.\d", re.IGNORECASE)
_BY_COMMA: Final = re.compile(
    rf"(?<![\d.,])\d+,(?:(?:\d{{1,2}}|\d{{4,6}}){_SHARE_BEHIND}|\d\d\s?(?:€|EUR\b))|\d\.\d{{3}},\d",
    re.IGNORECASE,
)
_NEARBY: Final = 300


def find(text: str) -> Iterator[Match]:
    """The shares in a text."""
    for found in _PERCENTAGE.finditer(text):
        amount = _amount(found)
        if amount is not None:
            yield Match(found.start(), found.end(), float(amount), plain(amount), 0.95)


def _amount(found: re.Match[str]) -> Decimal | None:
    if found["part"]:
        return part(found["part"])
    given = found["both"] or found["digits"]
    amount = number(given) if given else spelled(found["words"])
    if amount is None:
        return None
    if found["digits"] and _has_decimal_comma(found):
        amount = Decimal(given.replace(",", "."))
    amount = -amount if found["minus"] else amount
    return amount / 100 if (found["unit"] or "").lower() == "basis points" else amount


def _has_decimal_comma(found: re.Match[str]) -> bool:
    """Whether the comma in front of three digits begins a fraction, judged by the unit and by the numbers nearby."""
    if not _ONE_COMMA.fullmatch(found["digits"]):
        return False
    text, unit = found.string, found["unit"].lower()
    nearby = ((max(found.start() - _NEARBY, 0), found.start()), (found.end(), found.end() + _NEARBY))
    if any(_BY_POINT.search(text, *span) for span in nearby):
        return False
    is_said = unit == "prozent" or (unit == "%" and found["space"] != "")
    return is_said or any(_BY_COMMA.search(text, *span) for span in nearby)
