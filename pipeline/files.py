"""Reading local files as text in bounded memory. Knows nothing of formats or documents' structure.

A file is read twice: once to learn its hash, its encoding and that it is text, so that a file of another kind is
refused before any work is spent on it, and once more, block by block, when the document is read. Files that are not
wholly in the encoding that they seem to be in are looked at once more; bytes that stand for nothing become U+FFFD,
and are counted.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from pipeline.encodings import SAMPLE_BYTES, canonical, guess, mark_of
from pipeline.errors import DocumentError

BLOCK_BYTES: Final = 16_384
_SCAN_BYTES: Final = 1 << 20
SAMPLE_CHARS: Final = 20_000
_BEFORE_BAD: Final = 512
NUL_SHARE: Final = 0.1
_CONTROL_SHARE: Final = 0.02
_CONTROLS: Final = bytes(set(range(0x20)) - set(b"\t\n\r\f\x1a\x1b"))
_REPLACEMENT: Final = "\ufffd"

_MAGIC: Final = (
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
    """What a look at a whole text file tells. `text_start` is the byte behind the byte order mark, else 0.

    `decode_errors` counts the U+FFFD in the text, if any of them stands for bytes that could not be decoded.
    """

    sha256: str
    size: int
    mtime_ns: int
    text_start: int
    sample: str
    encoding: str = "utf-8"
    decode_errors: int = 0


def inspect_text_file(path: str, encoding: str | None = None) -> TextFileFacts:
    """Hash a file, find its encoding (unless it is given) and check that it is text.

    A byte order mark decides before everything else. Raises DocumentError: missing, no permission, not a regular
    file, empty, another kind of file, mostly NUL bytes or control characters, an encoding that there is not.
    """
    with opened(path) as descriptor:
        before = os.fstat(descriptor)
        head = _read(descriptor, 8, 0)
        refuse_other_kinds(head)
        marked, start = mark_of(head)
        wanted = marked or _known(encoding)
        scan = _scan(descriptor, (start, before.st_size), wanted or "utf-8", "strict")
        if scan.bad_at is not None:
            chosen = wanted or _guess(descriptor, start, scan)
            scan = replace(_scan(descriptor, (start, before.st_size), chosen, "replace"), sha256=scan.sha256)
        scan.refuse_what_is_no_text()
        refuse_changed(before, os.fstat(descriptor))
        return TextFileFacts(
            scan.sha256, before.st_size, before.st_mtime_ns, start, scan.sample, scan.encoding, scan.errors
        )


def read_text_blocks(path: str, facts: TextFileFacts, start: int) -> Iterator[tuple[str, int]]:
    """The text from byte `start` of the file on, in pieces of at most BLOCK_BYTES, each with the byte it ends at.

    `start` must be a place that an earlier iteration ended at. Pieces never split a character; one that the end of the
    file cuts in two is a piece of its own, U+FFFD. Raises DocumentError if the file has changed since `facts` were
    taken.
    """
    with opened(path) as descriptor:
        _refuse_changed_since(facts, os.fstat(descriptor))
        errors, position = "replace" if facts.decode_errors else "strict", start
        while data := _read(descriptor, BLOCK_BYTES, position):
            # A new decoder for each block: all encodings here have no memory but for bytes of an unfinished character.
            decoder = codecs.getincrementaldecoder(facts.encoding)(errors)
            try:
                text = decoder.decode(data)
                if not text and position + len(data) >= facts.size:
                    text = decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise _changed() from error  # it was valid when the facts were taken
            if not text:
                raise _changed()
            position += len(data) - len(decoder.getstate()[0])
            yield text, position
        _refuse_changed_since(facts, os.fstat(descriptor))


@contextmanager
def opened(path: str) -> Iterator[int]:
    """The descriptor of a regular file, for as long as it is needed. Raises DocumentError."""
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


def refuse_unreadable(path: str) -> None:
    """Raise DocumentError if a file cannot be opened or is empty."""
    with opened(path) as descriptor:
        if os.fstat(descriptor).st_size == 0:
            raise DocumentError("open", "empty", "the file is empty")


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


def refuse_other_kinds(head: bytes) -> None:
    """Raise DocumentError if the first bytes of what should be text are those of another kind of file, or none."""
    if len(head) == mark_of(head)[1]:
        raise DocumentError("open", "empty", "the file is empty")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DocumentError(
                "open",
                "unsupported_type",
                f"looks like {what}, not text; give it the suffix of its kind, or convert it to text",
            )


def _known(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    name = canonical(encoding)
    if name is None:
        message = f"no encoding {encoding!r} that can be read from the middle; convert the file to UTF-8 first"
        raise DocumentError("decode", "unknown_encoding", message)
    return name


@dataclass(frozen=True)
class _Scan:
    """One pass over a file. `bad_at` is the first byte that cannot be decoded; counts of bytes go to the end."""

    encoding: str
    sha256: str
    size: int
    sample: str
    blank: bool
    errors: int
    nuls: int
    controls: int
    bad_at: int | None

    def refuse_what_is_no_text(self) -> None:
        if self.blank:
            raise DocumentError("open", "empty", "the file holds nothing but white space")
        wide = self.encoding.startswith(("utf-16", "utf-32"))
        share = f"{self.nuls:,} of {self.size:,} bytes are NUL"
        if not wide and self.nuls > NUL_SHARE * self.size:
            what = "this is no text file; if it is UTF-16 without a byte order mark, set inputs.encoding in a job file"
            raise DocumentError("decode", "binary_not_text", f"{share}: {what}")
        is_utf8 = self.encoding == "utf-8" and not self.errors
        if not wide and not is_utf8 and self.controls > _CONTROL_SHARE * self.size:
            message = f"{self.controls:,} of {self.size:,} bytes are control characters: this is no text file"
            raise DocumentError("decode", "binary_not_text", message)


def _scan(descriptor: int, span: tuple[int, int], encoding: str, errors: str) -> _Scan:
    """Read these bytes, no further if the file grows. Behind what a strict decoder refuses they are only counted."""
    start, end = span
    digest = hashlib.sha256(_read(descriptor, start, 0))
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    position, nuls, controls, replaced, blank, sample = start, 0, 0, 0, True, ""
    bad_at: int | None = None
    while True:
        data = _read(descriptor, max(min(_SCAN_BYTES, end - position), 0), position)
        digest.update(data)
        if bad_at is None:
            text, bad_at = _decode(decoder, data, position)
            blank = blank and not text.strip()
            replaced += text.count(_REPLACEMENT) if errors == "replace" else 0
            sample += text[: max(SAMPLE_CHARS - len(sample), 0)]
        if not data:
            break
        nuls += data.count(0)
        controls += len(data) - len(data.translate(None, _CONTROLS))
        position += len(data)
    return _Scan(encoding, digest.hexdigest(), position - start, sample, blank, replaced, nuls, controls, bad_at)


def _decode(decoder: codecs.IncrementalDecoder, data: bytes, position: int) -> tuple[str, int | None]:
    """The text of the next bytes (none: of the end), and where the first byte lies that is not in the encoding."""
    held = len(decoder.getstate()[0])
    try:
        return decoder.decode(data, final=not data), None
    except UnicodeDecodeError as error:
        return "", position - held + error.start


def _guess(descriptor: int, start: int, scan: _Scan) -> str:
    """The encoding of a file that is not UTF-8: judged by the bytes around the first ones that are not."""
    first = max(start, (scan.bad_at or 0) - _BEFORE_BAD)
    return guess(_read(descriptor, SAMPLE_BYTES, first))


def refuse_changed(before: os.stat_result, after: os.stat_result) -> None:
    """Raise DocumentError if a file is not what it was."""
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
