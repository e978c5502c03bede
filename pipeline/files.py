"""Reading local files as UTF-8 text in bounded memory. Knows nothing of formats or documents' structure.

A file is read twice: once to learn its hash and that it is text to the last byte, so that a damaged file is
refused before any work is spent on it, and once more, block by block, when the document is read.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pipeline.errors import DocumentError

BLOCK_BYTES: Final = 16_384
_SCAN_BYTES: Final = 1 << 20
_SAMPLE_CHARS: Final = 20_000
_BOM: Final = codecs.BOM_UTF8
_NUL_SHARE: Final = 0.1

# Longer marks first: the UTF-32 LE mark begins with the UTF-16 LE mark.
_MAGIC: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"%PDF-", "a PDF file"),
    (b"PK\x03\x04", "a zip archive (DOCX, EPUB, XLSX, …)"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
)


@dataclass(frozen=True)
class TextFileFacts:
    """What one pass over a text file tells. `text_start` is 3 behind a byte order mark, else 0."""

    sha256: str
    size: int
    mtime_ns: int
    text_start: int
    sample: str


def inspect_text_file(path: str) -> TextFileFacts:
    """Hash a file and check that all of it is UTF-8 text.

    Raises DocumentError: missing, no permission, not a regular file, empty, another kind of file, not UTF-8
    (with the offset of the first bad byte), mostly NUL bytes.
    """
    with _opened(path) as descriptor:
        before = os.fstat(descriptor)
        head = _read(descriptor, 8, 0)
        _refuse_other_kinds(head)
        start = len(_BOM) if head.startswith(_BOM) else 0
        digest, sample = _scan(descriptor, start)
        _refuse_changed(before, os.fstat(descriptor))
        return TextFileFacts(digest, before.st_size, before.st_mtime_ns, start, sample)


def read_text_blocks(path: str, facts: TextFileFacts, start: int) -> Iterator[tuple[str, int]]:
    """The text from byte `start` of the file on, in pieces of at most BLOCK_BYTES, each with the byte it ends at.

    `start` must be a place that an earlier iteration ended at. Pieces never split a character. Raises
    DocumentError if the file has changed since `facts` were taken.
    """
    with _opened(path) as descriptor:
        _refuse_changed_since(facts, os.fstat(descriptor))
        position = start
        while data := _read(descriptor, BLOCK_BYTES, position):
            data = data[: _whole_characters(data)]
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _changed() from error  # it was valid when the facts were taken
            if not text:
                raise _changed()
            position += len(data)
            yield text, position
        _refuse_changed_since(facts, os.fstat(descriptor))


@contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DocumentError(
            "open",
            "missing",
            "the file is gone since the inputs were listed; run again once it is back",
            retryable=True,
        ) from error
    except PermissionError as error:
        raise DocumentError(
            "open", "permission", "no permission to read the file; allow it and run again", retryable=True
        ) from error
    except OSError as error:
        raise DocumentError("open", "io_error", f"cannot open the file: {error.strerror}", retryable=True) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DocumentError("open", "special_file", "not a regular file (a folder, FIFO or device)")
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, count: int, position: int) -> bytes:
    try:
        return os.pread(descriptor, count, position)
    except OSError as error:
        raise DocumentError(
            "read",
            "io_error",
            f"cannot read the file: {error.strerror}",
            byte_offset=position,
            retryable=True,
        ) from error


def _refuse_other_kinds(head: bytes) -> None:
    if not head or head == _BOM:
        raise DocumentError("open", "empty", "the file is empty")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DocumentError(
                "open",
                "unsupported_type",
                f"looks like {what}, not UTF-8 text; convert it to UTF-8 text first",
            )


def _scan(descriptor: int, start: int) -> tuple[str, str]:
    digest = hashlib.sha256(_read(descriptor, start, 0))
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    position, nuls, blank, sample = start, 0, True, ""
    while data := _read(descriptor, _SCAN_BYTES, position):
        digest.update(data)
        text = _decode(decoder, data, position)
        nuls += data.count(0)
        blank = blank and not text.strip()
        if len(sample) < _SAMPLE_CHARS:
            sample += text[: _SAMPLE_CHARS - len(sample)]
        position += len(data)
    _decode(decoder, b"", position, final=True)
    if blank:
        raise DocumentError("open", "empty", "the file holds nothing but white space")
    if nuls > _NUL_SHARE * (position - start):
        raise DocumentError(
            "decode",
            "binary_not_text",
            f"{nuls:,} of {position - start:,} bytes are NUL: this is no text file",
        )
    return digest.hexdigest(), sample


def _decode(decoder: codecs.IncrementalDecoder, data: bytes, position: int, final: bool = False) -> str:
    held = len(decoder.getstate()[0])
    try:
        return decoder.decode(data, final)
    except UnicodeDecodeError as error:
        at = position - held + error.start
        raise DocumentError(
            "decode",
            "not_utf8",
            f"not UTF-8: {error.reason} at byte {at:,}; convert the file to UTF-8 (iconv -f ENCODING -t UTF-8)",
            byte_offset=at,
        ) from error


def _whole_characters(data: bytes) -> int:
    """How many bytes of `data` are whole UTF-8 characters, given that the file is valid UTF-8."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        width = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return len(data) if width <= back else len(data) - back
    return len(data)


def _refuse_changed(before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _changed()


def _refuse_changed_since(facts: TextFileFacts, now: os.stat_result) -> None:
    if (facts.size, facts.mtime_ns) != (now.st_size, now.st_mtime_ns):
        raise _changed()


def _changed() -> DocumentError:
    return DocumentError(
        "read",
        "changed_during_read",
        "the file changed while it was read; run again once it is still",
        retryable=True,
    )
