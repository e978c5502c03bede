"""Plain numbers, without a unit: `42`, `1,500`, `3.14`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.numbers import DIGITS, number, plain
from pipeline.fields.rules import Match

TYPE: Final = "number"

_NUMBER: Final = re.compile(rf"(?<![\w.,/:-])-?(?:{DIGITS})(?![\w/:-]|[.,]\d)")


def find(text: str) -> Iterator[Match]:
    """The numbers in a text that are not part of a word, a date or an identifier."""
    for found in _NUMBER.finditer(text):
        written = found[0].removeprefix("-")
        amount = number(written) * (-1 if found[0] != written else 1)
        value = int(amount) if amount == amount.to_integral_value() else float(amount)
        yield Match(found.start(), found.end(), value, plain(amount), 0.6)
