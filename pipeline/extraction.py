"""What formats that must be parsed hand out: stretches of text in reading order, and at the end facts about them.

Such formats run in a process of their own (`pipeline.sandbox`), so what they hand out is plain. Knows nothing of
processes, of the run, or of any one format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, TypeAlias

BLOCK_CHARS: Final = 8_192
_LONE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Stretch:
    """Text in one section and on one page. The stretches of a document, joined, are its text."""

    text: str
    section: str | None = None
    page: int | None = None


@dataclass(frozen=True)
class About:
    """What is known once all text is out. `encoding` is empty where the source is no encoded text."""

    encoding: str = ""
    decode_errors: int = 0
    title: str | None = None
    pages: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


Extraction: TypeAlias = "Iterator[Stretch | About]"
Extract: TypeAlias = "Callable[[BinaryIO, Mapping[str, str]], Extraction]"


def merged(extraction: Extraction) -> Extraction:
    """The same text in stretches of about BLOCK_CHARS where section and page allow it, and the facts.

    Lone surrogates, which no encoding can hold, become U+FFFD.
    """
    held: list[str] = []
    size, place = 0, Stretch("")
    for found in extraction:
        if isinstance(found, About):
            yield from _blocks(held, place)
            yield found
            return
        if (found.section, found.page) != (place.section, place.page) or size >= BLOCK_CHARS:
            yield from _blocks(held, place)
            held, size, place = [], 0, found
        held.append(found.text)
        size += len(found.text)


def _blocks(texts: list[str], place: Stretch) -> Iterator[Stretch]:
    text = _LONE.sub("\ufffd", "".join(texts))
    for start in range(0, len(text), BLOCK_CHARS):
        yield Stretch(text[start : start + BLOCK_CHARS], place.section, place.page)
