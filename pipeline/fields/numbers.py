"""Numbers as people write them: digits with separators, and small ones in words. Knows nothing of units."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

DIGITS: Final = (
    r"\d{1,3}(?:[,.'’\u00a0\u202f ]\d{3})+(?:[.,]\d{1,2})?(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d{1,2})?(?!\d)"
    r"|\d+(?:[.,]\d+)?"
)
"""A pattern: 1,500.00, 1.500,00, 1 500, 1,00,000 (India), 12.5 or 12,5."""

_SMALL: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_UNITS: Final = _SMALL.split()
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SPELLED: Final = {word: number for number, word in enumerate(_UNITS)} | {
    word: 20 + 10 * place for place, word in enumerate(_TENS)
}
_BELOW_HUNDRED: Final = r"(?:(?:{tens})(?:[- ](?:{units}))?|(?:{units}))".format(
    tens="|".join(_TENS), units="|".join(sorted(_UNITS[1:], key=len, reverse=True))
)
WORDS: Final = rf"(?:(?:an?|{_BELOW_HUNDRED}) hundred(?:(?: and)? {_BELOW_HUNDRED})?|{_BELOW_HUNDRED})"
"""A pattern: English number words below 10,000."""

_SCALES: Final = {
    "thousand": 1000,
    "k": 1000,
    "million": 10**6,
    "mio": 10**6,
    "m": 10**6,
    "mm": 10**6,
    "billion": 10**9,
    "bn": 10**9,
    "b": 10**9,
    "trillion": 10**12,
    "mn": 10**6,
    "mrd": 10**9,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "crores": 10**7,
}
SCALES: Final = r"thousand|million|billion|trillion|mio\.?|mrd\.?|lakhs?|crores?|bn|mn\b|[kK]\b|MM?\b"


def number(text: str) -> Decimal:
    """The number that DIGITS matched. A last group of one or two digits behind a separator is the fraction."""
    plain = re.sub(r"[’'\s\u00a0\u202f]", "", text)
    marks = [mark for mark in plain if mark in ",."]
    if not marks:
        return Decimal(plain)
    last = marks[-1]
    whole, _, fraction = plain.rpartition(last)
    grouped = len(fraction) == 3 and whole.strip("0,.") != "" and (len(set(marks)) == 1)
    if grouped and (last == "," or len(marks) > 1):
        return Decimal(re.sub(r"[,.]", "", plain))
    return Decimal(f"{re.sub(r'[,.]', '', whole)}.{fraction}")


def spelled(words: str) -> int | None:
    """`twenty-five` → 25; None for what is no such number."""
    total = 0
    for word in re.split(r"[-\s]+", words.lower().strip()):
        if word in ("a", "an", "and", ""):
            continue
        if word == "hundred":
            total = max(total, 1) * 100
        elif word in _SPELLED:
            total += _SPELLED[word]
        else:
            return None
    return total or None


def scaled(amount: Decimal, scale: str | None) -> Decimal:
    """The amount times what a word such as `million` says."""
    return amount * _SCALES.get((scale or "").lower().rstrip("."), 1)


def plain(amount: Decimal) -> str:
    """Digits without an exponent and without zeros at the end of a fraction."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
