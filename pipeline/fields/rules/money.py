"""Sums of money: `$1,500.00`, `US$ 2.5 million`, `1.500,00 EUR`, `twenty dollars`. Normalised to `USD 1500`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from pipeline.fields.numbers import DIGITS, SCALES, WORDS, number, plain, scaled, spelled
from pipeline.fields.rules import Match

TYPE: Final = "money"

_SIGNS: Final = {
    "US$": "USD",
    "C$": "CAD",
    "A$": "AUD",
    "HK$": "HKD",
    "R$": "BRL",
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "Rs.": "INR",
    "zł": "PLN",
}
_NAMES: Final = {
    "dollars": "USD",
    "dollar": "USD",
    "euros": "EUR",
    "euro": "EUR",
    "pounds sterling": "GBP",
    "yen": "JPY",
    "rupees": "INR",
}
_CODE: Final = "USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|CNY|RMB|INR|HKD|SGD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|RUB"
_CODES: Final = frozenset(_CODE.split("|"))
_SIGN: Final = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_NAME: Final = "|".join(sorted(_NAMES, key=len, reverse=True))
_MONEY: Final = re.compile(
    rf"(?P<before>(?:(?:{_CODE})\s?)?(?:{_SIGN})|\b(?:{_CODE}))\s{{0,2}}(?P<first>{DIGITS})"
    rf"(?:\s?(?P<scale1>{SCALES}))?"
    rf"|(?<![\d.,])(?P<second>{DIGITS})(?:\s?(?P<scale2>{SCALES}))?\s?(?P<after>€|zł|\b(?:{_CODE})\b|\b(?i:{_NAME})\b)"
    rf"|\b(?P<words>(?i:{WORDS}))(?:\s(?P<scale3>{SCALES}))?\s(?P<named>(?i:{_NAME}))\b"
)


def find(text: str) -> Iterator[Match]:
    """The sums in a text, with their currencies."""
    for found in _MONEY.finditer(text):
        if found["words"]:
            words = spelled(found["words"])
            amount = None if words is None else scaled(Decimal(words), found["scale3"])
        else:
            amount = scaled(number(found["first"] or found["second"]), found["scale1"] or found["scale2"])
        if amount is None:
            continue
        currency = _currency(found["before"] or found["after"] or found["named"])
        value = {"amount": plain(amount), "currency": currency}
        yield Match(found.start(), found.end(), value, f"{currency} {plain(amount)}", 0.9)


def _currency(written: str) -> str:
    parts = written.split()
    for part in (written, *parts):
        name = part.lower()
        if part in _CODES:
            return part
        if name in _NAMES:
            return _NAMES[name]
    for sign in sorted(_SIGNS, key=len, reverse=True):
        if written.endswith(sign):
            return written[:3] if written[:3] in _CODES else _SIGNS[sign]
    return written
