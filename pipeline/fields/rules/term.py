"""Terms that a text defines: `("Licensee")`, `(the "Effective Date")`, `"Affiliate" means …`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match
from pipeline.fields.values import squeezed

TYPE: Final = "term"

_OPEN, _CLOSE = "\"“„«'‘", "\"”“»'’"
_TERM: Final = re.compile(
    rf"\(\s?(?:[^()\"“„«]{{0,60}}\s)?[{_OPEN}]\s?(?P<aside>[^\s\"“”„«»()][^\"“”„«»()]{{0,60}}?)\s?[{_CLOSE}][^()]{{0,60}}\)"
    rf"|[{_OPEN}](?P<meant>[^\s\"“”„«»()][^\"“”„«»()]{{0,60}}?)[{_CLOSE}]\s{{1,3}}"
    r"(?:shall\s(?:mean|have\sthe)|means|is\sdefined|has\sthe\smeaning|bedeutet|bezeichnet)"
)


def find(text: str) -> Iterator[Match]:
    """The terms where they are defined, without their quotation marks."""
    for found in _TERM.finditer(text):
        group = "aside" if found["aside"] else "meant"
        start, end = found.span(group)
        written = found[group].rstrip(",. ")
        end = start + len(written)
        if written:
            yield Match(start, end, squeezed(written), squeezed(written).lower(), 0.85)
