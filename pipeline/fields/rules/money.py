"""Sums of money: `$1,500.00`, `US$ 2.5 million`, `1.500,00 EUR`, `Rs 1,00,000`, `twenty dollars`; as `USD 1500`.

What multiplies the upper end of a range multiplies the lower too, where that is the smaller number: `$2-3 million` is
two million, its lower end, and `$2 to $3 million` two sums, but `$500 to $2 million` begins at five hundred.

A sign that several currencies share stands for the commonest, unless a code behind the number says which: `$500 CAD`.
Codes and signs that are also words or prefixes in capitals (`ALL 5`, `TOP 10`, `CVE 2020`, `RM 204`) are left out. A
sum in brackets is no negative one, as accountants write it: contracts say `five hundred dollars ($500)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from pipeline.fields.numbers import CLOSE_SCALES, DIGITS, MINUS, SCALES, WORDS, number, plain, scaled, spelled
from pipeline.fields.rules import Match

TYPE: Final = "money"

_SIGNS: Final = {
    "US$": "USD",
    "C$": "CAD",
    "CA$": "CAD",
    "A$": "AUD",
    "AU$": "AUD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "NT$": "TWD",
    "MX$": "MXN",
    "R$": "BRL",
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "￥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "₺": "TRY",
    "₪": "ILS",
    "₫": "VND",
    "₱": "PHP",
    "₦": "NGN",
    "₴": "UAH",
    "₸": "KZT",
    "฿": "THB",
    "৳": "BDT",
    "Rs.": "INR",
    "Rs": "INR",
    "Rp": "IDR",
}
_BEHIND: Final = {"€": "EUR", "£": "GBP", "₹": "INR", "₽": "RUB", "₴": "UAH", "₫": "VND", "zł": "PLN", "Kč": "CZK"} | {
    "Ft": "HUF",
    "元": "CNY",
    "円": "JPY",
    "원": "KRW",
}
"""Signs that stand behind the number."""

_SHARED: Final = {
    "$": frozenset(("USD", "CAD", "AUD", "NZD", "HKD", "SGD", "TWD", "MXN", "ARS", "CLP")),
    "£": frozenset(("GBP", "EGP")),
    "¥": frozenset(("JPY", "CNY", "RMB")),
    "￥": frozenset(("JPY", "CNY", "RMB")),
    "Rs": frozenset(("INR", "PKR", "LKR")),
    "Rs.": frozenset(("INR", "PKR", "LKR")),
}
"""Signs and the codes that may stand behind their numbers and say what they mean."""

_GROUPS_BY_DOT: Final = frozenset(
    {
        *("EUR", "DKK", "NOK", "SEK", "ISK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "RUB", "UAH", "KZT"),
        *("BRL", "ARS", "CLP", "IDR", "VND"),
    }
)
"""Currencies whose users write a decimal comma: three digits behind a dot are thousands, and no fraction."""

_DOLLARS: Final = {
    "": "USD",
    "us ": "USD",
    "u.s. ": "USD",
    "united states ": "USD",
    "canadian ": "CAD",
    "australian ": "AUD",
    "new zealand ": "NZD",
    "hong kong ": "HKD",
    "singapore ": "SGD",
}
_NAMES: Final = {f"{whose}dollar{end}": code for whose, code in _DOLLARS.items() for end in ("s", "")} | {
    "euros": "EUR",
    "euro": "EUR",
    "pounds sterling": "GBP",
    "british pounds": "GBP",
    "yen": "JPY",
    "yuan": "CNY",
    "renminbi": "CNY",
    "rupees": "INR",
    "indian rupees": "INR",
    "pakistani rupees": "PKR",
    "roubles": "RUB",
    "rubles": "RUB",
    "swiss francs": "CHF",
    "złotych": "PLN",
}
_CODE: Final = (
    "USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|CNY|RMB|INR|HKD|SGD|SEK|NOK|DKK|ISK|PLN|CZK|HUF|RON|BGN|BRL|MXN|ARS|CLP|ZAR|KRW|RUB|"
    "UAH|TWD|THB|IDR|MYR|PHP|VND|ILS|AED|SAR|QAR|KWD|EGP|NGN|KES|GHS|PKR|BDT|LKR"
)
_CODES: Final = frozenset(_CODE.split("|"))
_SIGN: Final = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_SIGN_BEHIND: Final = "|".join(_BEHIND)
_NAME: Final = "|".join(re.escape(name).replace(r"\ ", r"[\s-]") for name in sorted(_NAMES, key=len, reverse=True))
# A code with another number or sum behind it belongs to that one.
_CODE_BEHIND: Final = rf"\b(?:{_CODE})\b(?!\s{{0,2}}[-−]?(?:{_SIGN})?\s?\d)"
# `5b EUR` but not `4b EUR 12.50`; T€ and TEUR are thousands in German.
_CLOSE_BEHIND: Final = (
    rf"(?!T\s?(?:€|EUR)){CLOSE_SCALES}(?=\s?(?:(?:{_SIGN_BEHIND})(?!\s?\d)|{_CODE_BEHIND}|(?i:{_NAME})\b))"
)
_SCALED: Final = rf"\s?(?:{SCALES})|{CLOSE_SCALES}"
_TO: Final = r"(?:\s?[-–]\s?|\s(?:up\s)?to\s)"
_MONEY: Final = re.compile(
    rf"(?P<minus>{MINUS})?(?P<before>(?<![A-Za-z])(?:(?:{_CODE})\s?)?(?:{_SIGN})|\b(?:{_CODE}))\s{{0,2}}(?P<inner>[-−])?"
    rf"(?P<first>{DIGITS})(?:{_TO}(?P<upper>{DIGITS})(?={_SCALED}))?(?P<scale1>{_SCALED})?(?:[^\S\n]?(?P<own>{_CODE_BEHIND}))?"
    # Not the 100 of `and 00/100 dollars`.
    rf"|(?P<minus2>{MINUS})?(?<![\d.,])(?<!\d/)(?P<second>{DIGITS})(?P<scale2>\s?(?:{SCALES})|{_CLOSE_BEHIND})?\s?"
    rf"(?P<after>(?:{_SIGN_BEHIND})(?!\w)|\b(?:{_CODE})\b|\b(?i:{_NAME})\b)"
    rf"|\b(?P<words>(?i:{WORDS}))[-\s](?P<named>(?i:{_NAME}))\b"
)
_UPPER: Final = re.compile(
    rf"(?:{_TO}|\s(?P<and>and)\s)(?P<sign>(?:(?:{_CODE})\s?)?(?:{_SIGN})|(?:{_CODE}))\s{{0,2}}"
    rf"(?P<upper>{DIGITS})(?P<scale>{_SCALED})"
)
"""The upper end of a range behind its lower one, each with its sign."""
_PER_SHARE: Final = re.compile(r"\s(?:per|pro|je)\s(?:\w+\s)?(?:share|Aktie|lit(?:re|er)|kWh)\b", re.IGNORECASE)
"""What costs a few units of money and their thousandths."""


def find(text: str) -> Iterator[Match]:
    """The sums in a text, with their currencies."""
    for found in _MONEY.finditer(text):
        currency, end = _currency_of(found)
        amount = _amount(found, currency)
        if amount is None:
            continue
        value = {"amount": plain(amount), "currency": currency}
        yield Match(found.start(), end, value, f"{currency} {plain(amount)}", 0.9)


def _amount(found: re.Match[str], currency: str) -> Decimal | None:
    if found["words"]:
        return spelled(found["words"])
    scale = _scale(found)
    dot_groups = currency in _GROUPS_BY_DOT and not scale and not _PER_SHARE.match(found.string, found.end())
    amount = scaled(number(found["first"] or found["second"], dot_groups=dot_groups), scale)
    return -amount if found["minus"] or found["inner"] or found["minus2"] else amount


def _scale(found: re.Match[str]) -> str | None:
    """What multiplies the sum: it may stand behind the upper end of a range alone."""
    own = found["scale1"] or found["scale2"]
    if found["upper"]:
        return own if _rises(found["first"], found["upper"]) else None
    if own or not found["first"]:
        return own
    upper = _UPPER.match(found.string, found.end("first"))
    if not upper or upper["sign"] != found["before"]:
        return None
    if upper["and"] and found.string[max(found.start() - 8, 0) : found.start()].lower() != "between ":
        return None
    return upper["scale"] if _rises(found["first"], upper["upper"]) else None


def _rises(first: str, upper: str) -> bool:
    return number(first) < number(upper)


def _currency_of(found: re.Match[str]) -> tuple[str, int]:
    """The code, and where the sum ends: a code behind it counts only where it says which currency a sign means."""
    if found["upper"] and not _rises(found["first"], found["upper"]):
        return _currency(found["before"]), found.end("first")
    if not found["own"]:
        return _currency(found["before"] or found["after"] or found["named"]), found.end()
    if found["own"] in _SHARED.get(found["before"], ()):
        return found["own"], found.end()
    return _currency(found["before"]), len(found.string[: found.start("own")].rstrip())


def _currency(written: str) -> str:
    name = re.sub(r"[\s-]", " ", written.lower())
    if name in _NAMES:
        return _NAMES[name]
    for part in (written, *written.split()):
        if part in _CODES:
            return part
    for sign, code in sorted((_SIGNS | _BEHIND).items(), key=lambda pair: -len(pair[0])):
        if written.endswith(sign):
            return written[:3] if written[:3] in _CODES else code
    return written
