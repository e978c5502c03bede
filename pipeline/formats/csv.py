"""Tables as text (.csv, .tsv) with a header: one document a row. `text_key` names the column that holds its text.

The delimiter is the one that the header has most of. A row that does not fit the header fails alone. Lines end as they
did on any system: at `\\n`, `\\r\\n` or `\\r`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
from pipeline.files import inspect_text_file
from pipeline.records import (
    LARGEST,
    NAME_THE_TEXT,
    Member,
    NotARecordError,
    RecordDocument,
    metadata_keys,
    place,
    read_record,
    record_document,
    wrong,
)

SUFFIXES: Final = (".csv", ".tsv")
_DELIMITERS: Final = (",", ";", "\t", "|")
_QUOTED: Final = re.compile(r'(?:^|(?<=[,;\t|]))"(?:[^"]|"")*"')
_OPEN_QUOTE: Final = re.compile(r'(?:^|[,;\t|])"')
_LINE_END: Final = re.compile(r"\s*[\r\n]\s*")
_LARGEST_HEADER: Final = 1 << 14
_LONGEST_NAME: Final = 60


def members(path: str, options: Mapping[str, str]) -> Iterator[Member]:
    """The rows of a file, in order. Raises DocumentError, OSError."""
    facts = inspect_text_file(path, options.get("encoding"))
    with open(path, "rb") as file:
        file.seek(facts.text_start)
        table = Table(file, facts.encoding, facts.text_start, options)
        for row in table.rows():
            found = {**table.options, **place(row.start, row.end, row.line)}
            yield Member(row.name, row.end - row.start, found, row.is_placed)


def open_document(ref: DocumentRef) -> RecordDocument:
    if "start" not in ref.options:
        next(members(ref.path, ref.options), None)  # says what is wrong with the file, if anything is
        raise DocumentError("open", "empty", "there are no rows in this file")
    csv.field_size_limit(LARGEST)
    options, data = ref.options, read_record(ref)
    text = data.decode(options["encoding"], "replace")
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=options["delimiter"], strict=True)
        found, metadata = fields(next(rows, []), options)
        if next(rows, None) is not None:
            raise NotARecordError("more than a row; correct its quotes and line ends")
    except csv.Error as error:
        raise wrong(ref, f"not a row: {error}; correct it") from error
    except NotARecordError as error:
        raise wrong(ref, str(error)) from error
    errors = text.count("\ufffd") if "\ufffd".encode() not in data else 0
    return record_document(ref, data, options["encoding"], found, metadata, errors)


def fields(row: Sequence[str], options: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The text of a row and its metadata, given the options of its table. Raises NotARecordError."""
    if len(row) != int(options["columns"]):
        raise NotARecordError(f"{len(row)} cells where the header has {options['columns']}; correct the row")
    return row[int(options["text_column"])], {key: row[int(options[f"column:{key}"])] for key in metadata_keys(options)}


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, the bytes it lies at (half-open), its first line, and its id.

    `is_placed` says that it has none, and is called by its line.
    """

    cells: Sequence[str]
    start: int
    end: int
    line: int
    name: str
    is_placed: bool


class Table:
    """A table, read row by row from a file that stands at its header. Raises DocumentError: no such columns."""

    def __init__(self, file: BinaryIO, encoding: str, byte: int, options: Mapping[str, str]) -> None:
        if encoding.startswith(("utf-16", "utf-32")):
            raise DocumentError("decode", "unknown_encoding", f"a table in {encoding}; convert it to UTF-8 first")
        csv.field_size_limit(LARGEST)
        self._lines = _Lines(file, encoding, byte)
        delimiter, header = _header(self._lines)
        self.options = {**options, "encoding": encoding, "delimiter": delimiter, **_columns(header, options)}
        """What a row of it is read with."""
        self._id_column = _column(header, options.get("id_key"))

    def rows(self) -> Iterator[Row]:
        """The rows in order; one that is no row at all has no cells."""
        lines, rows = self._lines, csv.reader(self._lines, delimiter=self.options["delimiter"])
        while True:
            start, line = lines.byte, lines.number + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                row = []
            if any(row) or (not row and lines.byte - start > 2):
                name = row[self._id_column] if self._id_column is not None and self._id_column < len(row) else ""
                yield Row(row, start, lines.byte, line, name or str(line), not name)


class _Lines:
    """The lines of a file as text, which knows behind which byte and line it stands."""

    def __init__(self, file: BinaryIO, encoding: str, byte: int) -> None:
        self._pieces = _pieces(file)
        self._encoding = encoding
        self.byte = byte
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = next(self._pieces)
        self.byte += len(data)
        self.number += 1
        return data.decode(self._encoding, "replace")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, cut where they are longer than any record may be."""
    rest = b""
    while data := file.readline(LARGEST - len(rest)):
        *whole, rest = (rest + data).splitlines(keepends=True)
        yield from whole
        if rest.endswith(b"\n") or len(rest) >= LARGEST:  # else it may go on, if only with the `\n` behind its `\r`
            yield rest
            rest = b""
    if rest:
        yield rest


def _header(lines: Iterator[str]) -> tuple[str, list[str]]:
    """The delimiter of a table and the names of its columns, without line ends. Raises DocumentError."""
    text = next(lines, "")
    while (
        _OPEN_QUOTE.search(bare := _QUOTED.sub("", text)) and len(text) < _LARGEST_HEADER and (more := next(lines, ""))
    ):
        text += more
    delimiter = max(_DELIMITERS, key=bare.count)
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        message = f"the header is no row of a table: {error}; correct it"
        raise DocumentError("parse", "parse_error", message) from error
    return delimiter, [_LINE_END.sub(" ", name) for name in header]


def _columns(header: list[str], options: Mapping[str, str]) -> dict[str, str]:
    """Where the header says the columns are that the options name. Raises DocumentError."""
    wanted = [options.get("text_key", "text"), *metadata_keys(options), *filter(None, [options.get("id_key")])]
    missing = [key for key in wanted if key not in header]
    if missing:
        known = ", ".join(name[:_LONGEST_NAME] for name in header[:8])
        message = f"no column {missing[0]!r} (there are {known}); {NAME_THE_TEXT}"
        raise DocumentError("parse", "parse_error", message)
    places = {f"column:{key}": str(header.index(key)) for key in metadata_keys(options)}
    return {**places, "text_column": str(header.index(wanted[0])), "columns": str(len(header))}


def _column(header: list[str], key: str | None) -> int | None:
    return header.index(key) if key is not None else None
