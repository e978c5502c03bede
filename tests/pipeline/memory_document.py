"""A document held in memory, cut into blocks as a test likes: what a reader of any format looks like from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef


@dataclass(frozen=True)
class MemoryDocument:
    """`texts` are the blocks; `sections` and `pages`, if given, name the section and the page of each."""

    texts: tuple[str, ...]
    sections: tuple[str | None, ...] = ()
    language: str = "en"
    ref: DocumentRef = field(default=DocumentRef("d0", "memory.txt", "/memory.txt", 0, 0, "text"))
    pages: tuple[int, ...] = ()

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
            page = self.pages[index] if self.pages else None
            yield Block(self.texts[index], section, page, {"block": index + 1})


def cut(text: str, lengths: Sequence[int]) -> tuple[str, ...]:
    """`text` in pieces of these lengths, over and over; lengths below one count as one."""
    pieces: list[str] = []
    position = 0
    while position < len(text):
        length = max(1, lengths[len(pieces) % len(lengths)])
        pieces.append(text[position : position + length])
        position += length
    return tuple(pieces)


def paged(pages: Sequence[str], lengths: Sequence[int]) -> MemoryDocument:
    """A document of these pages, each cut into blocks of these lengths."""
    blocks = [(text, number) for number, page in enumerate(pages, start=1) for text in cut(page, lengths)]
    return MemoryDocument(tuple(text for text, _ in blocks), pages=tuple(number for _, number in blocks))


class StrideTokenizer:
    """Every `stride` bytes are a token, wherever characters and sentences end: the hardest case for spans.

    Its streams hold back three tokens and more, as one must that looks ahead.
    """

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def encode(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        return [int.from_bytes(data[i : i + self.stride], "big") for i in range(0, len(data), self.stride)]

    def stream(self, snapshot: bytes = b"") -> StrideStream:
        return StrideStream(self.stride, snapshot)


class StrideStream:
    """The incremental side of StrideTokenizer."""

    def __init__(self, stride: int, pending: bytes) -> None:
        self._stride = stride
        self._pending = pending

    def push(self, text: str) -> list[tuple[int, int]]:
        data = self._pending + text.encode("utf-8")
        whole = max(0, len(data) // self._stride - 3) * self._stride
        self._pending = data[whole:]
        return self._pieces(data[:whole])

    def finish(self) -> list[tuple[int, int]]:
        rest, self._pending = self._pending, b""
        return self._pieces(rest)

    def snapshot(self) -> bytes:
        return self._pending

    def _pieces(self, data: bytes) -> list[tuple[int, int]]:
        parts = [data[i : i + self._stride] for i in range(0, len(data), self._stride)]
        return [(int.from_bytes(part, "big"), len(part)) for part in parts]
