"""Who concludes a contract: names of companies, and names between `between` and `and`, with their short names.

A name in the sentence that opens a contract weighs more than a company that is named anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match
from pipeline.fields.values import squeezed

TYPE: Final = "party"

_FORMS: Final = (
    r"Inc|INC|Incorporated|INCORPORATED|LLC|L\.L\.C|LLP|L\.L\.P|LP|L\.P|Ltd|LTD|Limited|LIMITED|Corp|CORP|Corporation|"
    r"CORPORATION|Company|COMPANY|Co|CO|PLC|plc|GmbH|AG|KG|S\.A|SA|S\.p\.A|S\.r\.l|N\.A|N\.V|NV|B\.V|BV|Oy|AB|A/S|ASA|"
    r"Pty|PTE|Pte|KK|K\.K|Trust|TRUST|Bank|BANK|Association|Foundation|University|UNIVERSITY|Partnership|PARTNERSHIP|"
    r"Partners|PARTNERS|Fund|FUND"
)
_WORD: Final = r"(?:[A-Z0-9][\w&.’'/-]*|&|of|and|the|de|for)"
_COMPANY: Final = re.compile(
    rf"(?<![\w&])[A-Z0-9][\w&.’'/-]*(?:\s{_WORD}){{0,6}}?,?\s(?:{_FORMS})\b\.?(?:,?\s(?:{_FORMS})\b\.?)?"
)
_OPENING: Final = re.compile(
    r"\b(?:by\sand\s(?:between|among)|between|among|BETWEEN|AMONG|BY\sAND\sBETWEEN|BY\sAND\sAMONG)\b:?(?P<names>.{5,1200}?)"
    r"(?=\.\s+[A-Z]|\n\s*\n|WHEREAS|W\sI\sT\sN|WITNESSETH|RECITALS|NOW,|$)",
    re.DOTALL,
)
_SHORT: Final = re.compile(
    r"\((?:[^()\"“]{0,60}\s)?[\"“]\s?(?P<name>[A-Z][^\"“”()]{0,40}?)[,.]?\s?[\"”]"
    r"(?:(?:\sor\s|,?\s(?:and\s)?)(?:the\s)?[\"“](?P<other>[A-Z][^\"“”()]{0,40}?)[\"”])?[^()]{0,40}\)"
)
_PERSON: Final = re.compile(
    r"(?:^|\sand\s|,\s|\n)\s*(?P<name>(?:Mr\.?\s|Ms\.?\s|Dr\.?\s)?[A-Z][\w.’'-]+(?:\s[A-Z][\w.’'-]*){1,4})\s?(?=[,(])"
)
_NO_NAME: Final = re.compile(
    r"^(?:This|THIS|The\s(?:Company|Parties|Bank|Trust)|Agreement|AGREEMENT|Date|State|Effective|Exhibit|Article|Section|"
    r"Source|In|As|If|Any|Each|Such|WHEREAS|Delaware|Nevada|Page|Execution)\b"
)
_NEVER_SHORT: Final = ("agreement", "effective date", "party", "parties", "contract", "date", "term")
_START: Final = re.compile(r"^(?:(?:This|THIS|The|the|and|of|by|for|with|between|among|BY|AND|OF)\s)+")


def find(text: str) -> Iterator[Match]:
    """The names in a text that may be those of parties, in its order."""
    openings = [found.span("names") for found in _OPENING.finditer(text)]
    found = [*_companies(text, openings), *_in_openings(text, openings)]
    last = -1
    for match in sorted(found, key=lambda match: (match.start, -match.weight, -match.end)):
        if match.start >= last:
            yield match
            last = match.end


def _companies(text: str, openings: list[tuple[int, int]]) -> Iterator[Match]:
    for found in _COMPANY.finditer(text):
        start = found.start() + _leading(found[0])
        written = text[start : found.end()].rstrip(", ")
        if len(written) < 4 or _NO_NAME.match(written) or " " not in written:
            continue
        inside = any(begin <= start < end for begin, end in openings)
        yield _match(start, written, 0.85 if inside else 0.2)


def _in_openings(text: str, openings: list[tuple[int, int]]) -> Iterator[Match]:
    for begin, end in openings:
        names = text[begin:end]
        for found in _SHORT.finditer(names):
            for group in ("name", "other"):
                if found[group] and found[group].lower() not in _NEVER_SHORT:
                    yield _match(begin + found.start(group), found[group].rstrip(), 0.75)
        if not _COMPANY.search(names):
            for found in _PERSON.finditer(names[:400]):
                yield _match(begin + found.start("name"), found["name"], 0.45)


def _leading(name: str) -> int:
    """Characters of small words before a name."""
    found = _START.match(name)
    return found.end() if found else 0


def _match(start: int, written: str, weight: float) -> Match:
    name = squeezed(written)
    key = re.sub(r"[^\w&]+", " ", name.lower()).strip()
    return Match(start, start + len(written), name, key, weight)
