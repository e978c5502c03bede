"""Tables as text (.csv, .tsv) with a header: one document a row. `text_key` names the column that holds its text.

The delimiter is the one that the header has most of. A row that does not fit the header fails alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
from pipeline.files import inspect_text_file
from pipeline.records import LARGEST, Member, RecordDocument, metadata_keys, place, read_record, record_document, wrong

SUFFIXES: Final = (".csv", ".tsv")
_DELIMITERS: Final = (",", ";", "\t", "|")


def members(path: str, options: Mapping[str, str]) -> Iterator[Member]:
    """The rows of a file, in order. Raises DocumentError, OSError."""
    facts = inspect_text_file(path, options.get("encoding"))
    if facts.encoding.startswith(("utf-16", "utf-32")):
        raise DocumentError("decode", "unknown_encoding", f"a table in {facts.encoding}; convert it to UTF-8 first")
    csv.field_size_limit(LARGEST)
    with open(path, "rb") as file:
        file.seek(facts.text_start)
        lines = _Lines(file, facts.encoding, facts.text_start)
        first = next(lines, "")
        delimiter = max(_DELIMITERS, key=first.count)
        header = next(csv.reader([first], delimiter=delimiter), [])
        known = {**options, "encoding": facts.encoding, "delimiter": delimiter, **_columns(header, options)}
        rows, id_column = csv.reader(lines, delimiter=delimiter), _column(header, options.get("id_key"))
        while True:
            start, line = lines.byte, lines.number + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                row = []
            if any(row) or (not row and lines.byte - start > 2):
                name = row[id_column] if id_column is not None and id_column < len(row) else ""
                yield Member(name or str(line), lines.byte - start, {**known, **place(start, lines.byte, line)})


def open_document(ref: DocumentRef) -> RecordDocument:
    if "start" not in ref.options:
        next(members(ref.path, ref.options), None)  # says what is wrong with the file, if anything is
        raise DocumentError("open", "empty", "there are no rows in this file")
    csv.field_size_limit(LARGEST)
    options, data = ref.options, read_record(ref)
    text = data.decode(options["encoding"], "replace")
    try:
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=options["delimiter"], strict=True), [])
    except csv.Error as error:
        raise wrong(ref, f"not a row: {error}; correct it") from error
    if len(row) != int(options["columns"]):
        raise wrong(ref, f"{len(row)} cells where the header has {options['columns']}; correct the row")
    found = {key: row[int(options[f"column:{key}"])] for key in metadata_keys(options)}
    errors = text.count("\ufffd") if "\ufffd".encode() not in data else 0
    return record_document(ref, data, options["encoding"], row[int(options["text_column"])], found, errors)


class _Lines:
    """The lines of a file as text, which knows behind which byte and line it stands."""

    def __init__(self, file: BinaryIO, encoding: str, byte: int) -> None:
        self._file = file
        self._encoding = encoding
        self.byte = byte
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self._file.readline(LARGEST)
        if not data:
            raise StopIteration
        self.byte += len(data)
        self.number += 1
        return data.decode(self._encoding, "replace")


def _columns(header: list[str], options: Mapping[str, str]) -> dict[str, str]:
    """Where the header says the columns are that the options name. Raises DocumentError."""
    wanted = [options.get("text_key", "text"), *metadata_keys(options), *filter(None, [options.get("id_key")])]
    missing = [key for key in wanted if key not in header]
    if missing:
        known = ", ".join(header[:8])
        message = f"no column {missing[0]!r} (there are {known}); set inputs.text_key"
        raise DocumentError("parse", "parse_error", message)
    places = {f"column:{key}": str(header.index(key)) for key in metadata_keys(options)}
    return {**places, "text_column": str(header.index(wanted[0])), "columns": str(len(header))}


def _column(header: list[str], key: str | None) -> int | None:
    return header.index(key) if key is not None else None
