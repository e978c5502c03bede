"""Standard input as a document: kept in a file of the run before it is read, and from then on a file like any other.

So a run that was stopped goes on although what was on standard input is gone. Of what it holds only the first bytes
are looked at: they say what kind of file it is. Knows nothing of jobs.
"""

from __future__ import annotations

import secrets
import sys
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, cast

from jobs.errors import JobError, usage_error
from jobs.manifest import document_id
from pipeline.durable import TEMPORARY, Disk

STDIN: Final = "-"
"""How paths and addresses name it."""
STDIN_ID: Final = document_id(STDIN, "standard input")
"""Of the document. A file that is called `-` has another."""

_NAME: Final = "stdin"
_READ_BYTES: Final = 1 << 20
_LOOKED_AT: Final = 4096
_BEGINNINGS: Final = (
    (b"%PDF-", ".pdf"),
    (b"{\\rtf", ".rtf"),
    (b"\x1f\x8b", ".txt.gz"),
    (b"\x28\xb5\x2f\xfd", ".txt.zst"),
    (b"<!doctype html", ".html"),
    (b"<html", ".html"),
)
_PACKED: Final = (
    (b"mimetypeapplication/epub+zip", ".epub"),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ".odt"),
    (b"[Content_Types].xml", ".docx"),
    (b"META-INF/container.xml", ".epub"),
    (b"", ".zip"),
)


def kept(folder: Path) -> Path | None:
    """The file in this folder that holds what was on standard input, or None if it has not been read."""
    return next((path for path in sorted(folder.glob(f"{_NAME}.*")) if TEMPORARY not in path.name), None)


def beginning() -> bytes:
    """What comes first on standard input, as soon as something does; nothing if it is at its end.

    Raises JobError (exit 2) if it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise _nothing("standard input is closed")
    return cast(BufferedReader, sys.stdin.buffer).read1(_READ_BYTES)


def keep(folder: Path, disk: Disk, most_bytes: int | None = None, begun: bytes = b"") -> Path:
    """Read standard input to its end into a file of the folder, in bounded memory, behind what has been read of it.

    Raises JobError (exit 2): a terminal, nothing there, more than `most_bytes`; OSError for the disk.
    """
    if not begun:
        refuse_terminal()
    stream, head = sys.stdin.buffer, begun[:_LOOKED_AT]
    disk.make_folder(folder)
    temporary = folder / f"{_NAME}{TEMPORARY}{secrets.token_hex(6)}"
    try:
        with disk.create(temporary) as file:
            file.write(begun)
            while chunk := _next(stream):
                head = head or chunk[:_LOOKED_AT]
                file.write(chunk)
                if most_bytes is not None and file.size > most_bytes:
                    message = f"more than {most_bytes:,} bytes came; raise inputs[].max_bytes"
                    raise usage_error("INPUT-STDIN", message, STDIN)
        if not head:
            raise _nothing("nothing came on standard input")
        path = folder / f"{_NAME}{suffix_of(head)}"
        disk.rename(temporary, path)
    finally:
        disk.remove(temporary)
    return path


def refuse_terminal() -> None:
    """Raise JobError (exit 2) if there is nobody who sends anything."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise _nothing("standard input is a terminal or closed")


def suffix_of(head: bytes) -> str:
    """The suffix of the kind of file that begins with these bytes: of text, unless they say something else."""
    if head.startswith(b"PK\x03\x04"):
        return next(suffix for mark, suffix in _PACKED if mark in head)
    begun = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((suffix for beginning, suffix in _BEGINNINGS if begun.startswith(beginning.lower())), ".txt")


def _next(stream: BinaryIO) -> bytes:
    try:
        return stream.read(_READ_BYTES)
    except OSError as error:
        raise _nothing(f"standard input cannot be read: {error.strerror}") from error


def _nothing(what: str) -> JobError:
    message = f"{what}; send the document, from its start: `unspool … < FILE`"
    return usage_error("INPUT-STDIN", message, STDIN)
