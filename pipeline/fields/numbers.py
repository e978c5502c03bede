"""Numbers as people write them: digits with separators, fractions, and words. Knows nothing of units."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Final

DIGITS: Final = (
    r"\d{1,3}(?:[,.'’\u00a0\u202f ]\d{3})+(?:[.,]\d{1,2})?(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d{1,2})?(?!\d)"
    r"|\d+(?:[.,]\d+)?"
)
"""A pattern: 1,500.00, 1.500,00, 1 500, 1,00,000 (India), 12.5 or 12,5."""

# Only proper fractions, of the parts that people count in: `5/10%` is five or ten.
_PROPER: Final = "|".join(f"{top}[/⁄]{bottom}" for bottom in (2, 3, 4, 5, 6, 8, 16, 32, 64) for top in range(1, bottom))
_VULGAR: Final = "[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]"
FRACTIONS: Final = rf"(?<!/)(?:\d{{1,3}}[\s-])?(?:{_PROPER})(?![\d/])|(?:\d{{1,3}}\s?)?{_VULGAR}"
"""A pattern: 1/2, 2 1/2, 2-1/2, ½ or 2½."""

_DENOMINATORS: Final = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
    "sixteenth": 16,
    "twentieth": 20,
    "hundredth": 100,
}
_NUMERATOR: Final = r"(?:one|an?|two|three|four|five|six|seven|eight|nine)[-\s]"
PARTS: Final = rf"\d{{1,3}}[/⁄][1-9]\d{{0,2}}(?:th|rd|nd)?|{_VULGAR}|(?:{_NUMERATOR})?(?:{'|'.join(_DENOMINATORS)})s?"
"""A pattern: what may stand in front of `of one percent`: 1/2, ½, half, one-half or three quarters."""

MINUS: Final = r"(?<![\w.,)\]%€$£¥-])[-−]"
"""A pattern: a minus in front of a number, and not the hyphen of a range or of a word."""

_SMALL: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_UNITS: Final = _SMALL.split()
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SPELLED: Final = {word: number for number, word in enumerate(_UNITS)} | {
    word: 20 + 10 * place for place, word in enumerate(_TENS)
}
_BELOW_HUNDRED: Final = r"(?:(?:{tens})(?:[-\s](?:{units}))?|(?:{units}))".format(
    tens="|".join(_TENS), units="|".join(sorted(_UNITS[1:], key=len, reverse=True))
)
_BELOW_THOUSAND: Final = rf"(?:(?:an?|{_BELOW_HUNDRED})\shundred(?:(?:\sand)?\s{_BELOW_HUNDRED})?|{_BELOW_HUNDRED})"
_POINT: Final = rf"\spoint(?:\s(?:{'|'.join(_UNITS[:10])})\b){{1,6}}"
_SCALES: Final = {
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
_SCALE: Final = rf"(?:{'|'.join(_SCALES)})s?\b"
WORDS: Final = (
    # Half a million and a quarter of a million are less than one.
    rf"(?:(?:{_BELOW_THOUSAND}|zero(?=\spoint\s))(?:{_POINT})?|(?<!half[-\s])(?<!of\s)an?(?=\s{_SCALE}))"
    # There are no more scales than five; without a bound, a text of nothing but such words takes its length squared.
    rf"(?:[-\s]{_SCALE}(?:,?\s(?:and\s)?{_BELOW_THOUSAND})?){{0,5}}"
)
"""A pattern: numbers in English words: `twenty-five`, `one million two hundred thousand`, `three point five`."""

_FACTORS: Final = (
    _SCALES
    | {f"{scale}s": factor for scale, factor in _SCALES.items()}
    | {
        "k": 10**3,
        "m": 10**6,
        "mm": 10**6,
        "mn": 10**6,
        "mio": 10**6,
        "millionen": 10**6,
        "millones": 10**6,
        "milhões": 10**6,
        "b": 10**9,
        "bn": 10**9,
        "mrd": 10**9,
        "milliarde": 10**9,
        "milliarden": 10**9,
        "milliard": 10**9,
        "milliards": 10**9,
        "t": 10**12,
        "tn": 10**12,
    }
)
SCALES: Final = (
    rf"(?i:{_SCALE}|(?:millionen|millones|milhões|milliarden?|milliards?|bn)\b|(?:mio|mrd)(?:\.|\b))"
    # MN and TN in capitals are states.
    r"|(?:[mMtT]n|[kK]|MM?)\b"
)
"""A pattern: what multiplies the digits in front of it, with or without a space between them."""

CLOSE_SCALES: Final = r"[mbBT]\b"
"""A pattern: letters that do so only where nothing stands between, and only in a sum of money: `5 m` is a length."""


def number(text: str, *, dot_groups: bool = False) -> Decimal:
    """The number that DIGITS or FRACTIONS matched.

    A last group of one or two digits behind a separator is the fraction. One group of three behind a dot is a fraction
    too, unless `dot_groups`: `1.200` is then twelve hundred.
    """
    if re.search(rf"[/⁄]|{_VULGAR}", text):
        return _mixed(text)
    plain = re.sub(r"[’'\s\u00a0\u202f]", "", text)
    marks = [mark for mark in plain if mark in ",."]
    if not marks:
        return Decimal(plain)
    last = marks[-1]
    whole, _, fraction = plain.rpartition(last)
    grouped = len(fraction) == 3 and whole.strip("0,.") != "" and (len(set(marks)) == 1)
    if grouped and (last == "," or len(marks) > 1 or (dot_groups and len(whole) <= 3)):
        return Decimal(re.sub(r"[,.]", "", plain))
    return Decimal(f"{re.sub(r'[,.]', '', whole)}.{fraction}")


def _mixed(text: str) -> Decimal:
    """`2 1/2` or `2½` → 2.5; thirds to six places."""
    spread = unicodedata.normalize("NFKC", re.sub(_VULGAR, r" \g<0>", text)).replace("⁄", "/")
    return _decimal(sum((Fraction(one) for one in re.split(r"[\s-]+", spread.strip())), Fraction(0)))


def _decimal(exact: Fraction) -> Decimal:
    return round(Decimal(exact.numerator) / exact.denominator, 6)


def part(text: str) -> Decimal:
    """The number that PARTS matched: `three-quarters` → 0.75."""
    *top, bottom = re.split(r"[-\s]", text.lower())
    if text[0].isalpha():
        below = _DENOMINATORS.get(bottom) or _DENOMINATORS[bottom.removesuffix("s")]
        return _decimal(Fraction(_SPELLED.get(top[0], 1) if top else 1, below))
    return _mixed(text.rstrip("thrdn"))


def spelled(words: str) -> Decimal | None:
    """`one million twenty-five` → 1000025; None for what is no such number."""
    total, few, last, one = Decimal(0), Decimal(0), 0, Decimal(1)
    for word in re.split(r"[-,\s]+", re.sub(rf"(?i){_POINT}", _fraction, words).lower().strip()):
        scale = _FACTORS.get(word)
        if word in ("a", "an", "and", ""):
            continue
        if scale is not None:
            # `two thousand million`: a greater scale multiplies all that stands before it.
            total = (total + few or one) * scale if scale > last else total + (few or one) * scale
            few, last = Decimal(0), scale
        elif word == "hundred":
            few = (few or one) * 100
        elif word in _SPELLED:
            few += _SPELLED[word]
        elif word.startswith("."):
            few += Decimal(word)
        else:
            return None
    return total + few or None


def _fraction(point: re.Match[str]) -> str:
    """` point two five` → ` .25`."""
    return " ." + "".join(str(_SPELLED[word]) for word in point[0].lower().split()[1:])


def scaled(amount: Decimal, scale: str | None) -> Decimal:
    """The amount times what a word such as `million` says."""
    return amount * _FACTORS.get((scale or "").strip().lower().rstrip("."), 1)


def plain(amount: Decimal) -> str:
    """Digits without an exponent and without zeros at the end of a fraction."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
