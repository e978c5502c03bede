"""Addresses of electronic mail, in lower case."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match

TYPE: Final = "email"

_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")


def find(text: str) -> Iterator[Match]:
    """The addresses in a text."""
    for found in _EMAIL.finditer(text):
        yield Match(found.start(), found.end(), found[0], found[0].lower(), 0.98)
