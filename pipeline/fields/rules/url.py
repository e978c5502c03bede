"""Addresses of web pages: `https://example.org/a`, `www.example.org`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match

TYPE: Final = "url"

_URL: Final = re.compile(r"(?<![\w@])(?:https?://|ftp://|www\.)[^\s<>\"'“”«»{}|\\^`]{3,2000}", re.IGNORECASE)
_BEHIND: Final = ".,;:!?*_"


def find(text: str) -> Iterator[Match]:
    """The addresses in a text, without the punctuation behind them."""
    for found in _URL.finditer(text):
        address = found[0].rstrip(_BEHIND)
        while address.endswith((")", "]")) and address.count("(") + address.count("[") < address.count(
            ")"
        ) + address.count("]"):
            address = address[:-1].rstrip(_BEHIND)
        whole = address if "://" in address else f"https://{address}"
        scheme, _, rest = whole.partition("://")
        host, slash, path = rest.partition("/")
        normalized = f"{scheme.lower()}://{host.lower()}{slash}{path}".rstrip("/")
        yield Match(found.start(), found.start() + len(address), address, normalized, 0.97)
