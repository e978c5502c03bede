"""A document held in memory, cut into blocks as a test likes: what a reader of any format looks like from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef


@dataclass(frozen=True)
class MemoryDocument:
    """`texts` are the blocks; `sections`, if given, names the section of each."""

    texts: tuple[str, ...]
    sections: tuple[str | None, ...] = ()
    language: str = "en"
    ref: DocumentRef = field(default=DocumentRef("d0", "memory.txt", "/memory.txt", 0, 0, "text"))

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def facts(self) -> DocumentFacts:
        data = self.text.encode("utf-8")
        return DocumentFacts(hashlib.sha256(data).hexdigest(), len(data), "utf-8", 0, None, self.language, None)

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        first = 0 if after is None else cast(int, after["block"])
        for index in range(first, len(self.texts)):
            section = self.sections[index] if self.sections else None
            yield Block(self.texts[index], section, None, {"block": index + 1})


def cut(text: str, lengths: Sequence[int]) -> tuple[str, ...]:
    """`text` in pieces of these lengths, over and over; lengths below one count as one."""
    pieces: list[str] = []
    position = 0
    while position < len(text):
        length = max(1, lengths[len(pieces) % len(lengths)])
        pieces.append(text[position : position + length])
        position += length
    return tuple(pieces)
