"""Sums of money: `$1,500.00`, `US$ 2.5 million`, `1.500,00 EUR`, `Rs 1,00,000`, `twenty dollars`; as `USD 1500`.

A sign that several currencies share stands for the commonest. Codes and signs that are also words or prefixes in
capitals (`ALL 5`, `TOP 10`, `CVE 2020`, `RM 204`) are left out.
"""

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

_NAMES: Final = {
    "dollars": "USD",
    "dollar": "USD",
    "euros": "EUR",
    "euro": "EUR",
    "pounds sterling": "GBP",
    "yen": "JPY",
    "yuan": "CNY",
    "renminbi": "CNY",
    "rupees": "INR",
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
_NAME: Final = "|".join(sorted(_NAMES, key=len, reverse=True))
_MONEY: Final = re.compile(
    rf"(?P<before>(?<![A-Za-z])(?:(?:{_CODE})\s?)?(?:{_SIGN})|\b(?:{_CODE}))\s{{0,2}}(?P<minus>[-−])?(?P<first>{DIGITS})"
    rf"(?:\s?(?P<scale1>{SCALES}))?"
    rf"|(?<![\d.,])(?P<second>{DIGITS})(?:\s?(?P<scale2>{SCALES}))?\s?"
    rf"(?P<after>(?:{_SIGN_BEHIND})(?!\w)|\b(?:{_CODE})\b|\b(?i:{_NAME})\b)"
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
            amount = -amount if found["minus"] else amount
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
    for sign, code in sorted((_SIGNS | _BEHIND).items(), key=lambda pair: -len(pair[0])):
        if written.endswith(sign):
            return written[:3] if written[:3] in _CODES else code
    return written
