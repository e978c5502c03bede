"""Calendar days: `March 3, 2020`, `3rd day of March, 2020`, `2020-03-03`, `3/3/2020`, `3. März 2020`, `3-Mar-2020`.

All-digit dates are read month first, as in the United States, unless the first number cannot be a month; with dots they
are read day first. With dots and two digits of a year they look like numbers of sections and versions: they count where
day and month have two digits as well, or a word such as `dated` stands before them. Normalised to ISO 8601; a month
without a day to `2020-03`.
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
_ORDINAL: Final = r"(?:st|nd|rd|th|er|\.?[ºª°]|o)"
_DATE: Final = re.compile(
    rf"\b(?P<iso>(?P<iy>{_YEAR})-(?P<im>[01]\d)-(?P<id>[0-3]\d))(?!\d)"
    rf"|(?<![A-Za-z\d_/.])(?P<sy>{_YEAR})/(?P<sm>[01]?\d)/(?P<sd>{_DAY})(?![\d/])"
    rf"|(?<!\d)(?P<cy>{_YEAR})\s?[年년]\s?(?P<cm>[01]?\d)\s?[月월]\s?(?P<cd>{_DAY})\s?[日号號일]"
    rf"|\b(?P<md>(?P<mm>{_MONTH})\s{{0,8}}(?P<mday>{_DAY})\s?(?:st|nd|rd|th)?\s?(?:,|\s)\s{{0,8}}(?P<my>{_YEAR}))(?!\d)"
    rf"|(?<![\d.,])(?P<dm>(?P<dday>{_DAY})\s?{_ORDINAL}?\.?\s{{0,8}}(?:day\s{{1,8}})?(?:(?:of|del?)\s{{1,8}})?"
    rf"(?P<dmm>{_MONTH})\s?,?\s{{0,8}}(?:(?:of|del?)\s{{1,8}})?(?P<dy>{_YEAR}))(?!\d)"
    rf"|(?<![\w/.,-])(?P<hd>{_DAY})(?P<hyphen>[/-])(?P<hm>{_MONTH})(?P=hyphen)(?P<hy>{_YEAR}(?!\d)|\d\d(?!\w))"
    rf"|(?<![\d/.-])(?P<num>(?P<n1>\d{{1,2}})(?P<sep>[/.-])(?P<n2>\d{{1,2}})(?P=sep)(?P<ny>{_YEAR}|\d\d))(?![\d/-])"
    rf"|\b(?P<my2>(?P<om>{_MONTH}),?\s(?P<oy>{_YEAR}))(?!\d)",
    re.IGNORECASE,
)
_PARTS: Final = (
    ("iy", "im", "id"),
    ("sy", "sm", "sd"),
    ("cy", "cm", "cd"),
    ("my", "mm", "mday"),
    ("dy", "dmm", "dday"),
    ("hy", "hm", "hd"),
)
"""The groups of year, month and day in the forms that say which is which."""

_CUE_CHARS: Final = 40
_CUE: Final = re.compile(
    r"\b(?:dated?(?:\sof\s[^\W\d_]+)?|dtd|[^\W\d_]*datum|fecha|dato|дата|data(?=\s?:)|issued|signed|due|born|geb|stand"
    r"|on|am|vom|den|dem|le|du|il|del|el|op|dne|dnia|от"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch)[\s:.,(]{0,12}$",
    re.IGNORECASE,
)
"""What stands before a date."""

_NUMBERED: Final = re.compile(
    r"(?:\b[^\W\d_]|§\s?"
    r"|\b(?:v|ver|version|release|section|sec|sect|clause|article|art|chapter|paragraph|para|exhibit|figure|fig|table"
    r"|abschnitt|kapitel|ziffer|absatz|anlage|ip)s?[\s.:]{1,2}"
    r"|\b(?:based|built|depend(?:s|ing)?|installed|rel(?:ies|ying)|run(?:s|ning)?|tested|work(?:s|ing)?)\son\s)$",
    re.IGNORECASE,
)
"""What stands before the number of something else: a letter, as in v10.12.20, or its name."""


def find(text: str) -> Iterator[Match]:
    """The days and months named in a text. A number that is no day of its month is passed over."""
    for found in _DATE.finditer(text):
        match = _month_only(found) if found["my2"] else _day(found)
        if match:
            yield match


def _month_only(found: re.Match[str]) -> Match:
    value = f"{int(found['oy']):04d}-{_month(found['om']):02d}"
    return Match(found.start(), found.end(), value, value, 0.5)


def _day(found: re.Match[str]) -> Match | None:
    if found["sep"] == "." and _is_other_number(found):
        return None
    try:
        value = _parsed(found).isoformat()
    except ValueError:
        return None
    weight = 0.7 if found["num"] else 0.9
    return Match(found.start(), found.end(), value, value, weight)


def _is_other_number(found: re.Match[str]) -> bool:
    """Whether `10.4.10` is rather the number of a section, a version or an address."""
    before = found.string[max(0, found.start() - _CUE_CHARS) : found.start()]
    if re.match(r"\.\d", found.string[found.end() : found.end() + 2]):
        return True
    if len(found["ny"]) == 4:
        return before[-1:] in ("v", "V")
    two_digits = len(found["n1"] + found["n2"]) == 4
    return bool(_NUMBERED.search(before)) or not (two_digits or _CUE.search(before))


def _parsed(found: re.Match[str]) -> date:
    """Raises ValueError for a day that there is not."""
    for year, month, day in _PARTS:
        if found[year]:
            return date(_year(found[year]), _month(found[month]), int(found[day]))
    first, second, full = int(found["n1"]), int(found["n2"]), _year(found["ny"])
    day_first = found["sep"] == "." or first > 12
    return date(full, second, first) if day_first else date(full, first, second)


def _month(written: str) -> int:
    return _MONTHS.get(written.lower().rstrip(".")) or int(written)


def _year(written: str) -> int:
    year = int(written)
    return year if year >= 100 else year + (2000 if year < 70 else 1900)
