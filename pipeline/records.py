"""Files of many documents: each record is a document of its own, found again by where it lies in the file.

Knows nothing of how records are written (each format is a module of `pipeline.formats`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from pipeline.documents import Block, DocumentFacts, DocumentRef
from pipeline.durable import sha256_hex
from pipeline.errors import DocumentError
from pipeline.extraction import BLOCK_CHARS
from pipeline.files import opened
from pipeline.language import detect_language

if TYPE_CHECKING:
    from pipeline.documents import Cursor

LARGEST: Final = 64 << 20
NAME_THE_TEXT: Final = "name the text's key in a job file: inputs.text_key"
"""What helps where there is no text under the key. Commands of one document have no such option."""
_SAMPLE_CHARS: Final = 20_000
_LONE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Member:
    """One record of a file: its name there, its size in bytes, and the options that find it again.

    `is_placed` says that its name is only where it stands, because it has no id that can be read.
    """

    name: str
    size: int
    options: Mapping[str, str]
    is_placed: bool = False


@dataclass(frozen=True)
class Record:
    """A record of a file that is unpacked as a whole; `refused` says what is wrong with it, if anything is.

    `is_placed` as of a Member.
    """

    name: str
    text: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    is_placed: bool = False


class NotARecordError(ValueError):
    """What is wrong with one record, without its place; `metadata` is what could be read of it."""

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.metadata = dict(metadata or {})


@dataclass(frozen=True)
class RecordDocument:
    """The text of one record, in memory. Its cursor is the character to go on at."""

    ref: DocumentRef
    facts: DocumentFacts
    text: str

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        start = 0 if after is None else cast(int, after["char"])
        for place in range(start, len(self.text), BLOCK_CHARS):
            text = self.text[place : place + BLOCK_CHARS]
            yield Block(text, section=None, page=None, after={"char": place + len(text)})


def place(start: int, end: int, line: int) -> dict[str, str]:
    """The options that find a record again: bytes, half-open, and for people the line from 1."""
    return {"start": str(start), "end": str(end), "line": str(line)}


def read_record(ref: DocumentRef) -> bytes:
    """The bytes of the record that a reference names. Raises DocumentError."""
    start, end = int(ref.options["start"]), int(ref.options["end"])
    if end - start > LARGEST:
        message = f"{where(ref)}: a record of more than {LARGEST >> 20} MiB; make it a file of its own"
        raise DocumentError("open", "too_large", message, byte_offset=start)
    with opened(ref.path) as descriptor:
        refuse_changed_listing(ref, os.fstat(descriptor))
        return os.pread(descriptor, end - start, start)


def refuse_changed_listing(ref: DocumentRef, status: os.stat_result) -> None:
    """Raise DocumentError if a file of many documents is not what it was when they were listed."""
    if status.st_mtime_ns != ref.mtime_ns:
        message = "the file has changed since its records were listed; start a run of its own for what it holds now"
        raise DocumentError("read", "changed_during_read", message)


def record_document(
    ref: DocumentRef, data: bytes, encoding: str, text: str, metadata: Mapping[str, str], errors: int = 0
) -> RecordDocument:
    """The document that a record is. Raises DocumentError if it has no text."""
    clean = _LONE.sub("\ufffd", text)
    if not clean.strip():
        raise DocumentError("open", "empty", f"{where(ref)}: the text of this record is empty", metadata=metadata)
    errors += len(_LONE.findall(text))
    language = detect_language(clean[:_SAMPLE_CHARS])
    # The same bytes hold another text under another key.
    text_id = sha256_hex(json.dumps([sha256_hex(data), sorted(ref.options.items())]).encode())
    facts = DocumentFacts(sha256_hex(data), len(data), encoding, errors, None, language, None, dict(metadata), text_id)
    return RecordDocument(ref, facts, clean)


def wrong(ref: DocumentRef, what: str, metadata: Mapping[str, str] | None = None) -> DocumentError:
    """What is wrong with one record, with its place and what could be read of it."""
    start = int(ref.options["start"]) if "start" in ref.options else None
    return DocumentError("parse", "parse_error", f"{where(ref)}: {what}", byte_offset=start, metadata=metadata)


def where(ref: DocumentRef) -> str:
    """The place of a record in its file, for people."""
    return ref.options.get("place") or f"line {ref.options['line']}"


def unpacked_place(number: int, place: str) -> dict[str, str]:
    """The options that find a record of a file that is unpacked as a whole: its number from 0; for people `place`."""
    return {"number": str(number), "place": place}


def metadata_keys(options: Mapping[str, str]) -> list[str]:
    """The keys whose values go into the documents table."""
    keys: list[str] = json.loads(options.get("metadata", "[]"))
    return keys
