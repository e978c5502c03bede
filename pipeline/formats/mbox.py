"""Mailboxes (.mbox): each message is a document of its own, named after the line that it begins at.

A message begins behind a line that starts with `From `, at the start of the file or behind an empty line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import Extraction
from pipeline.formats import mail
from pipeline.records import Member, place

SUFFIXES: Final = (".mbox", ".mbx")
_SEPARATOR: Final = b"From "
_QUOTED: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_LINE_BYTES: Final = 1 << 16


def version() -> str:
    return f"1 {mail.version()}"


def list_members(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Member]:
    """The messages of a mailbox, in order. Raises DocumentError."""
    start, line = 0, 0
    for number, separator, end in _separators(file):
        if line and separator > start:
            yield Member(str(line), separator - start, {**options, **place(start, separator, line)})
        start, line = end, number


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    if "start" not in options:
        list(list_members(file, options))
        raise DocumentError("open", "empty", "there are no messages in this mailbox")
    start, end = int(options["start"]), int(options["end"])
    mail.refuse_large(end - start)
    file.seek(start)
    yield from mail.read_message(_QUOTED.sub(rb"\1", file.read(end - start)))


def _separators(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Of every line that separates messages: its number, where it begins and where it ends; then those of the end."""
    byte, number, new_line, after_empty = 0, 0, True, True
    while piece := file.readline(_LINE_BYTES):
        number += new_line
        if new_line and after_empty and piece.startswith(_SEPARATOR):
            yield number, byte, byte + len(piece)
        elif byte == 0:
            raise DocumentError("parse", "parse_error", "not a mailbox: it does not begin with `From `")
        after_empty = new_line and not piece.strip(b"\r\n")
        byte += len(piece)
        new_line = piece.endswith(b"\n")
    yield number, byte, byte
