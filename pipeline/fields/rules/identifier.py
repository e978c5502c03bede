"""Numbers that name something: `Invoice No. 2023-001`, `ISBN 978-3-16-148410-0`, `DE89 3704 0044 0532 0130 00`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match

TYPE: Final = "identifier"

_IDENTIFIER: Final = re.compile(
    r"(?:\b(?:No|Nos|Nr|nr|Number|Num|ID|Id|Ref|Reference|ISBN|ISSN|DOI|CUSIP|VAT|EIN|SKU|PO|\w+nummer)|#)"
    r"\.?(?:\s(?:No\.?|Number|ID))?(?:\s?[:#.]){0,2}\s{0,2}(?P<named>(?=[\w/.-]*\d)[A-Z0-9][\w/-]*(?:[.-][\w/-]+)*)"
    r"|\b(?P<iban>[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){2,7}(?:\s?[A-Z0-9]{1,3})?)\b"
    r"|\b(?P<code>[A-Z]{2,6}-\d{2,}(?:-[\w]+)*)\b"
)


def find(text: str) -> Iterator[Match]:
    """The identifiers in a text; their names are not part of them."""
    for found in _IDENTIFIER.finditer(text):
        for group, weight in (("named", 0.8), ("iban", 0.9), ("code", 0.6)):
            if found[group]:
                start, end = found.span(group)
                normalized = re.sub(r"\s", "", found[group]).upper()
                yield Match(start, end, found[group], normalized, weight)
