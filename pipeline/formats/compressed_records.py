"""JSON Lines and tables compressed with gzip or zstd (`.jsonl.gz`, `.csv.zst`, …): one document a line or row.

Such a file can only be read from its beginning, so all of its records are unpacked at once and kept.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import BinaryIO, Final, cast

from pipeline import compression
from pipeline.encodings import canonical, guess_around_errors, mark_of
from pipeline.formats import csv, jsonl
from pipeline.records import LARGEST, Member, NotARecordError, Record, unpacked_place

SUFFIXES: Final = tuple(
    f"{inner}{outer}" for inner in (*jsonl.SUFFIXES, *csv.SUFFIXES) for outer in compression.SUFFIXES
)
_MOST_BYTES: Final = 64 << 30


def version() -> str:
    return "1"


def list_members(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Member]:
    """The records of a file, in order. Raises DocumentError."""
    for number, (line, record) in enumerate(_numbered(file, options)):
        found = {**options, **unpacked_place(number, f"line {line}")}
        yield Member(record.name, len(record.text), found, record.is_placed)


def records(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Record]:
    """The same, with what is in them. Raises DocumentError."""
    return (record for _, record in _numbered(file, options))


def _numbered(file: BinaryIO, options: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    unpacked = compression.unpacked_file(file, _MOST_BYTES)
    is_table = PurePath(PurePath(options["name"]).stem).suffix.lower() in csv.SUFFIXES
    return _of_table(unpacked, options) if is_table else _of_lines(unpacked, options)


def _of_lines(file: io.BufferedReader, options: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    for line, (found, _) in enumerate(jsonl.lines(file, 0), start=1):
        data = found.removeprefix(codecs.BOM_UTF8) if line == 1 else found
        if not data.strip():
            continue
        known = jsonl.record_id(data, options.get("id_key"))
        name, is_placed = known or str(line), known is None
        try:
            if len(data) > LARGEST:
                raise NotARecordError(f"more than {LARGEST >> 20} MiB; make it a file of its own")
            text, metadata = jsonl.fields(data, options)
            yield line, Record(name, text, metadata, is_placed=is_placed)
        except NotARecordError as error:
            yield line, Record(name, "", error.metadata, str(error), is_placed)


def _of_table(file: io.BufferedReader, options: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    head = file.peek()
    marked, start = mark_of(head)
    encoding = marked or canonical(options.get("encoding", "")) or guess_around_errors(head)
    file.read(start)
    table = csv.Table(cast(BinaryIO, file), encoding, start, options)
    for row in table.rows():
        try:
            text, metadata = csv.fields(row.cells, table.options)
            yield row.line, Record(row.name, text, metadata, is_placed=row.is_placed)
        except NotARecordError as error:
            reason = str(error) if row.cells else "not a row; correct it"
            yield row.line, Record(row.name, "", refused=reason, is_placed=row.is_placed)
