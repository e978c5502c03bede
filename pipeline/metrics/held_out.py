"""Stretches of long English texts of several kinds, on which reading itself is measured: no labels are needed.

Knows nothing of models or of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.language import detect_language

KINDS: Final = {
    "novels": "books/en",
    "contracts and statutes": "legal",
    "specifications": "tech",
    "reports": "reports",
    "talk": "transcripts",
}
_SUFFIXES: Final = (".txt", ".md")
_CHARS: Final = 6_000
_SAMPLE_CHARS: Final = 8_192


@dataclass(frozen=True)
class Stretch:
    """Some thousand characters from the middle of a text of a kind."""

    kind: str
    text: str


def stretches(folder: Path, limit: int | None) -> Iterator[Stretch]:
    """One from every English text of the kinds, of each kind the first so many."""
    for kind, name in KINDS.items():
        paths = sorted(path for path in (folder / name).glob("*") if path.suffix in _SUFFIXES)
        for path in paths[:limit]:
            text = path.read_text("utf-8", "replace")
            if detect_language(text[:_SAMPLE_CHARS]) == "en":
                begin = max(text.find("\n\n", len(text) // 3), 0)
                yield Stretch(kind, text[begin : begin + _CHARS].lstrip())
