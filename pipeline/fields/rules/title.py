"""What a document calls itself: `DISTRIBUTION AGREEMENT`, `Amendment No. 2`, `Annual Report`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match
from pipeline.fields.values import squeezed

TYPE: Final = "title"

_KINDS: Final = (
    "Agreement|Contract|Lease|License|Amendment|Addendum|Policy|Plan|Deed|Indenture|Note|Charter|Report|Statement|"
    "Memorandum|Order|Invoice|Terms and Conditions|Terms of Service|Guarantee|Guaranty|Undertaking|Certificate|"
    "Specification"
)
# Of these there are several, told apart by number: `AMENDMENT 2`. Behind others a bare number is of a page or section.
_COUNTED: Final = "AMENDMENT|ADDENDUM|ORDER|NOTE|PLAN|REPORT|STATEMENT|INVOICE|CERTIFICATE|MEMORANDUM"
_SMALL: Final = "of|and|for|the|to|in|on|with|or|a|an|&|-|–|/|AND|OF|FOR|THE|TO|IN"
# These come last in a name, so on the next line something else begins, unless a small word goes on: `Amendment\nto`.
_LAST: Final = "Agreement|Contract|Amendment|Addendum|Deed|Indenture|Memorandum|Terms and Conditions|Terms of Service"
# Where no word of a name begins. `This` begins a sentence; only right in front of a name it is passed over.
_NO_PART: Final = rf"(?!(?:THIS|This)\b|(?:{_LAST}|{_LAST.upper()})[Ss]?[^\S\n]*\n(?!\s*(?:{_SMALL})\s))"
_UPPER: Final = re.compile(
    rf"(?<![\w\"“(])(?:{_NO_PART}[A-Z0-9][A-Z0-9&’'/,-]*\s+(?:(?:{_SMALL})\s+){{0,2}}){{0,9}}"
    rf"(?:(?:{_COUNTED})[^\S\n]+\d{{1,3}}|(?:{_KINDS.upper()})S?(?:\s+NO\.?\s*\d{{1,3}}|\s+BETWEEN)?)(?![\w])"
)
_PART: Final = rf"{_NO_PART}[A-Z][\w&’'/-]*,?\s(?:(?:{_SMALL})\s){{0,2}}"
_TITLE: Final = re.compile(
    rf"(?<![\w\"“(])(?:This\s|{_PART})(?:{_PART}){{0,7}}(?:{_KINDS})s?(?:\sNo\.?\s?\d{{1,3}})?(?![\w])"
)
_DROP: Final = re.compile(
    r"^(?:(?:This|THE|The|EXHIBIT|Exhibit|EX|ANNEX|SCHEDULE|FORM\sOF|Form\sof|EXECUTION\s(?:COPY|VERSION)|"
    r"Execution\s(?:Copy|Version)|CONFIDENTIAL|SUCH|Such|OF|A|AN|BY|\$?[A-Z]?\d[\d.,()a-z]*|[A-Z]-?\d[\d.]*)\s+)+"
)


def find(text: str) -> Iterator[Match]:
    """Stretches that may be titles, in the order of the text."""
    found = [*_titles(text, _UPPER, 0.8), *_titles(text, _TITLE, 0.6)]
    last = -1
    for match in sorted(found, key=lambda match: (match.start, -match.end)):
        if match.start >= last:
            yield match
            last = match.end


def _titles(text: str, pattern: re.Pattern[str], weight: float) -> Iterator[Match]:
    for found in pattern.finditer(text):
        written = re.sub(r"\s+BETWEEN$", "", found[0])
        dropped = _DROP.match(written)
        skip = dropped.end() if dropped else 0
        written = written[skip:]
        start = found.start() + skip
        if not written:
            continue
        name = squeezed(written)
        words = len(name.split())
        yield Match(start, start + len(written), name, name.lower(), weight if words > 1 else 0.3)
