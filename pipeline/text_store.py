"""The text of documents that must be parsed, extracted once and kept in the run directory.

One file a document, under a name that holds a hash of everything that determines its text: the bytes of the source,
the reader with its version, its options. It is a valid zstd file: frames of lines of JSON, one line a block, each
frame behind a skippable one with its lengths and a checksum, so that reading can begin at any of them. The last
frame says what is known of the document. Knows nothing of formats.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef
from pipeline.durable import TEMPORARY, Disk, NewFile, sha256_hex
from pipeline.errors import DocumentError
from pipeline.files import opened, refuse_changed
from pipeline.language import detect_language
from pipeline.records import refuse_changed_listing
from pipeline.sandbox import Limits, never, parse

FRAME_BYTES: Final = 1 << 16
_SAMPLE_CHARS: Final = 20_000
_HASH_BYTES: Final = 1 << 20
_HEAD: Final = struct.Struct("<IIIII")  # skippable magic, 12, lengths (compressed, raw), crc32 of the raw bytes
_TAIL: Final = struct.Struct("<IIQ")  # skippable magic, 8, where the last frame begins
_HEAD_MAGIC: Final = 0x184D2A50
_TAIL_MAGIC: Final = 0x184D2A51
_CODEC: Final = "zstd"


@dataclass(frozen=True)
class StoredDocument:
    """A document whose text is in the store. Its cursor is a frame and the blocks of it that are passed."""

    ref: DocumentRef
    facts: DocumentFacts
    path: Path
    end: int

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        frame, passed = (cast(int, after["frame"]), cast(int, after["block"])) if after is not None else (0, 0)
        while frame < self.end:
            try:
                raw, following = _frame(self.path, frame)
            except DocumentError:
                self.path.unlink(missing_ok=True)  # so that the next try extracts it anew
                raise
            for number, line in enumerate(raw.splitlines()):
                if number >= passed:
                    text, section, page = json.loads(line)
                    yield Block(text, section, page, {"frame": frame, "block": number + 1})
            frame, passed = following, 0


@dataclass(frozen=True)
class TextStore:
    """Keeps extracted texts in a folder. Values only, so that it can be made wherever a worker runs."""

    folder: Path
    disk: Disk
    limits: Limits = field(default_factory=Limits)
    stopped: Callable[[], bool] = never

    def open(self, ref: DocumentRef, version: str) -> StoredDocument:
        """The text of a document, extracted now unless it is there already. Raises DocumentError, OSError."""
        with opened(ref.path) as source:
            before = os.fstat(source)
            if before.st_size == 0:
                raise DocumentError("open", "empty", "the file is empty")
            start, end = _span(ref, before)
            sha256 = _hash(source, start, end)
            options = {**ref.options, "name": os.path.basename(ref.path)}
            key = sha256_hex(json.dumps([sha256, ref.reader, version, sorted(options.items())]).encode())
            path = self.folder / f"{ref.doc_id}-{key[:32]}.zst"
            stored = self._found(ref, path)
            if stored is None:
                records = parse(ref.reader, source, end - start, options, self.limits, self.stopped)
                self._write(path, _with_facts(records, sha256, end - start, key))
                refuse_changed(before, os.fstat(source))
                stored = self._found(ref, path)
        if stored is None:
            raise DocumentError("read", "io_error", f"{path.name} cannot be read back; check the disk", retryable=True)
        return stored

    def _found(self, ref: DocumentRef, path: Path) -> StoredDocument | None:
        """What is in the store under this name, unless it is missing or damaged."""
        try:
            with path.open("rb") as file:
                file.seek(-_TAIL.size, os.SEEK_END)
                magic, _, end = _TAIL.unpack(file.read(_TAIL.size))
            if magic != _TAIL_MAGIC:
                return None
            facts = json.loads(_frame(path, end)[0])
        except (OSError, ValueError, struct.error, DocumentError):
            return None
        return StoredDocument(ref, DocumentFacts(**facts), path, end)

    def _write(self, path: Path, lines: Iterator[bytes]) -> None:
        """Make the file from its lines, the last of which is a frame of its own."""
        self.disk.make_folder(self.folder)
        temporary = path.with_name(f"{path.name}{TEMPORARY}{secrets.token_hex(6)}")
        try:
            with self.disk.create(temporary) as file:
                _write_frames(file, lines)
            self.disk.rename(temporary, path)
        finally:
            self.disk.remove(temporary)


def _write_frames(file: NewFile, lines: Iterator[bytes]) -> None:
    held: list[bytes] = []
    size, last = 0, b""
    for line in lines:
        if last:
            held.append(last)
            size += len(last)
        if size >= FRAME_BYTES:
            _write_frame(file, b"\n".join(held))
            held, size = [], 0
        last = line
    if held:
        _write_frame(file, b"\n".join(held))
    end = file.size
    _write_frame(file, last)
    file.write(_TAIL.pack(_TAIL_MAGIC, 8, end))


def _write_frame(file: NewFile, raw: bytes) -> None:
    data = pa.Codec(_CODEC).compress(raw, asbytes=True)
    file.write(_HEAD.pack(_HEAD_MAGIC, 12, len(data), len(raw), zlib.crc32(raw)))
    file.write(data)


def _frame(path: Path, offset: int) -> tuple[bytes, int]:
    """The content of the frame that begins at a byte of the file, and where the next one begins."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            magic, _, size, raw_size, checksum = _HEAD.unpack(file.read(_HEAD.size))
            data = file.read(size)
        raw: bytes = pa.Codec(_CODEC).decompress(data, raw_size, asbytes=True)
    except (OSError, struct.error, pa.ArrowException, ValueError) as error:
        raise _damaged(path) from error
    if magic != _HEAD_MAGIC or zlib.crc32(raw) != checksum:
        raise _damaged(path)
    return raw, offset + _HEAD.size + size


def _damaged(path: Path) -> DocumentError:
    message = f"the extracted text {path.name} is damaged or gone; run again to extract it anew"
    return DocumentError("read", "text_damaged", message, retryable=True)


def _with_facts(records: Iterator[Mapping[str, Any]], sha256: str, size: int, key: str) -> Iterator[bytes]:
    """A line for each block, and the document's facts as the last one. Raises DocumentError if there is no text."""
    sample, blank, about = "", True, {}
    for record in records:
        if "about" in record:
            about = record["about"]
            break
        text = record["text"]
        blank = blank and not text.strip()
        sample += text[: max(_SAMPLE_CHARS - len(sample), 0)]
        yield _line([text, record["section"], record["page"]])
    if blank:
        raise DocumentError("parse", "empty", "there is no text in this file")
    facts = DocumentFacts(sha256, size, language=detect_language(sample), text_id=key, **about)
    yield _line(asdict(facts))


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _span(ref: DocumentRef, status: os.stat_result) -> tuple[int, int]:
    """The bytes of the file that the document takes: all, unless it is one of many. Raises DocumentError."""
    if "start" not in ref.options:
        return 0, status.st_size
    refuse_changed_listing(ref, status)
    return int(ref.options["start"]), int(ref.options["end"])


def _hash(source: int, start: int, end: int) -> str:
    digest, position = hashlib.sha256(), start
    while position < end and (data := _read(source, min(_HASH_BYTES, end - position), position)):
        digest.update(data)
        position += len(data)
    return digest.hexdigest()


def _read(source: int, count: int, position: int) -> bytes:
    try:
        return os.pread(source, count, position)
    except OSError as error:  # of the source, not of the run directory
        message = f"cannot read the file: {error.strerror}"
        raise DocumentError("read", "io_error", message, byte_offset=position, retryable=True) from error
