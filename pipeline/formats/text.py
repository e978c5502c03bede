"""Plain text: the file is the document. No structure is read into it; its one section has no name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from pipeline.documents import FOLLOW, Block, Cursor, Document, DocumentFacts, DocumentRef
from pipeline.durable import sha256_hex
from pipeline.files import TextFileFacts, inspect_text_file, read_text_blocks
from pipeline.growing import followed_text
from pipeline.language import detect_language

SUFFIXES: Final = (".txt", ".text", ".log")
GROWS: Final = True


@dataclass(frozen=True)
class TextDocument:
    """A text file. Its cursor is the byte of the file to go on at."""

    ref: DocumentRef
    facts: DocumentFacts
    file: TextFileFacts

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        start = self.file.text_start if after is None else cast(int, after["byte"])
        for text, end in read_text_blocks(self.ref.path, self.file, start):
            # What stands for half a character may be a whole one in a longer file.
            is_settled = end < self.file.size or not text.endswith("\ufffd")
            yield Block(text, section=None, page=None, after={"byte": end}, is_settled=is_settled)


def open_document(ref: DocumentRef) -> Document:
    if FOLLOW in ref.options:
        return followed_text(ref)
    file = inspect_text_file(ref.path, ref.options.get("encoding"))
    return TextDocument(ref, text_facts(file, title=None), file)


def text_facts(file: TextFileFacts, title: str | None) -> DocumentFacts:
    """The facts that every format on top of a text file shares."""
    return DocumentFacts(
        source_sha256=file.sha256,
        bytes=file.size,
        encoding="utf-8-sig" if file.text_start and file.encoding == "utf-8" else file.encoding,
        decode_errors=file.decode_errors,
        title=title,
        language=detect_language(file.sample),
        pages=None,
        text_id="" if file.encoding == "utf-8" else sha256_hex(f"{file.sha256}\0{file.encoding}".encode()),
    )
