"""Plain text: the file is the document. No structure is read into it; its one section has no name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef
from pipeline.files import TextFileFacts, inspect_text_file, read_text_blocks
from pipeline.language import detect_language

SUFFIXES: Final = (".txt", ".text", ".log")


@dataclass(frozen=True)
class TextDocument:
    """A UTF-8 text file. Its cursor is the byte of the file to go on at."""

    ref: DocumentRef
    facts: DocumentFacts
    file: TextFileFacts

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        start = self.file.text_start if after is None else cast(int, after["byte"])
        for text, end in read_text_blocks(self.ref.path, self.file, start):
            yield Block(text, section=None, page=None, after={"byte": end})


def open_document(ref: DocumentRef) -> TextDocument:
    file = inspect_text_file(ref.path)
    return TextDocument(ref, text_facts(file, title=None), file)


def text_facts(file: TextFileFacts, title: str | None) -> DocumentFacts:
    """The facts that every format on top of a UTF-8 file shares."""
    return DocumentFacts(
        source_sha256=file.sha256,
        bytes=file.size,
        encoding="utf-8-sig" if file.text_start else "utf-8",
        decode_errors=0,
        title=title,
        language=detect_language(file.sample),
        pages=None,
    )
