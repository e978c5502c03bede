"""Calendar days: `March 3, 2020`, `3rd day of March, 2020`, `2020-03-03`, `3/3/2020`, `3. März 2020`.

All-digit dates are read month first, as in the United States, unless the first number cannot be a month; with dots they
are read day first. Normalised to ISO 8601; a month without a day to `2020-03`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from pipeline.fields.rules import Match

TYPE: Final = "date"

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier enero gennaio janeiro januari stycznia января",
            "february feb februar février febrero febbraio fevereiro februari lutego февраля",
            "march mar märz mars marzo março maart marts marca марта",
            "april apr avril abril aprile kwietnia апреля",
            "may mai mayo maggio maio mei maj maja мая",
            "june jun juni juin junio giugno junho czerwca июня",
            "july jul juli juillet julio luglio julho lipca июля",
            "august aug août agosto augustus augusti sierpnia августа",
            "september sep sept septembre septiembre settembre setembro września сентября",
            "october oct oktober okt octobre octubre ottobre outubro października октября",
            "november nov novembre noviembre novembro listopada ноября",
            "december dec dezember dez décembre diciembre dicembre dezembro desember grudnia декабря",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH: Final = "(?:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_YEAR: Final = r"(?:1[5-9]|20)\d\d"
_DAY: Final = r"[0-3]?\d"
_DATE: Final = re.compile(
    rf"\b(?P<iso>(?P<iy>{_YEAR})-(?P<im>[01]\d)-(?P<id>[0-3]\d))(?!\d)"
    rf"|\b(?P<md>(?P<mm>{_MONTH})\s{{0,8}}(?P<mday>{_DAY})\s?(?:st|nd|rd|th)?\s?(?:,|\s)\s{{0,8}}(?P<my>{_YEAR}))(?!\d)"
    rf"|(?<![\d.,])(?P<dm>(?P<dday>{_DAY})\s?(?:st|nd|rd|th)?\.?\s{{0,8}}(?:day\s{{1,8}})?(?:(?:of|de)\s{{1,8}})?"
    rf"(?P<dmm>{_MONTH})\s?,?\s{{0,8}}(?:(?:of|de)\s{{1,8}})?(?P<dy>{_YEAR}))(?!\d)"
    rf"|(?<![\d/.-])(?P<num>(?P<n1>\d{{1,2}})(?P<sep>[/.-])(?P<n2>\d{{1,2}})(?P=sep)(?P<ny>{_YEAR}|\d\d))(?![\d/-])"
    rf"|\b(?P<my2>(?P<om>{_MONTH}),?\s(?P<oy>{_YEAR}))(?!\d)",
    re.IGNORECASE,
)


def find(text: str) -> Iterator[Match]:
    """The days and months named in a text. A number that is no day of its month is passed over."""
    for found in _DATE.finditer(text):
        match = _month_only(found) if found["my2"] else _day(found)
        if match:
            yield match


def _month_only(found: re.Match[str]) -> Match:
    value = f"{int(found['oy']):04d}-{_MONTHS[found['om'].lower().rstrip('.')]:02d}"
    return Match(found.start(), found.end(), value, value, 0.5)


def _day(found: re.Match[str]) -> Match | None:
    try:
        value = _parsed(found).isoformat()
    except ValueError:
        return None
    weight = 0.7 if found["num"] else 0.9
    return Match(found.start(), found.end(), value, value, weight)


def _parsed(found: re.Match[str]) -> date:
    """Raises ValueError for a day that there is not."""
    if found["iso"]:
        return date(int(found["iy"]), int(found["im"]), int(found["id"]))
    if found["md"]:
        return date(int(found["my"]), _MONTHS[found["mm"].lower().rstrip(".")], int(found["mday"]))
    if found["dm"]:
        return date(int(found["dy"]), _MONTHS[found["dmm"].lower().rstrip(".")], int(found["dday"]))
    first, second, year = int(found["n1"]), int(found["n2"]), int(found["ny"])
    if year < 100:
        year += 2000 if year < 70 else 1900
    day_first = found["sep"] == "." or first > 12
    return date(year, second, first) if day_first else date(year, first, second)
