"""JSON Lines: one document a line. `text_key` names its text, `id_key` its id, `metadata` what goes into `documents`.

A line that is no such record fails alone; the lines around it are read.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
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

SUFFIXES: Final = (".jsonl", ".ndjson")
_READ_BYTES: Final = 1 << 20


def members(path: str, options: Mapping[str, str]) -> Iterator[Member]:
    """The records of a file, in order. Raises OSError."""
    with open(path, "rb") as file:
        start = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        file.seek(start)
        for line, (data, end) in enumerate(lines(file, start), start=1):
            if data.strip():
                name = record_id(data, options.get("id_key"))
                found = {**options, **place(start, end, line)}
                yield Member(name or str(line), end - start, found, is_placed=name is None)
            start = end


def open_document(ref: DocumentRef) -> RecordDocument:
    if "start" not in ref.options:
        raise DocumentError("open", "empty", "there are no records in this file")
    data = read_record(ref)
    try:
        text, found = fields(data, ref.options)
    except NotARecordError as error:
        raise wrong(ref, str(error), error.metadata) from error
    return record_document(ref, data, "utf-8", text, found)


def fields(data: bytes, options: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The text of a record and its metadata. Raises NotARecordError."""
    record = _parsed(data)
    key = options.get("text_key", "text")
    metadata = {name: _as_text(record[name]) for name in metadata_keys(options) if record.get(name) is not None}
    if not isinstance(record.get(key), str):
        known = ", ".join(map(str, list(record)[:8]))
        raise NotARecordError(f"no text under {key!r} (it has {known or 'nothing'}); {NAME_THE_TEXT}", metadata)
    return record[key], metadata


def lines(file: BinaryIO, byte: int) -> Iterator[tuple[bytes, int]]:
    """Lines, each with the byte behind it, counted from `byte` on; of one too long for a record only the beginning."""
    while data := file.readline(LARGEST + 1):
        byte += len(data)
        rest = data
        while not rest.endswith(b"\n") and (rest := file.readline(_READ_BYTES)):
            byte += len(rest)
        yield data, byte


def record_id(data: bytes, key: str | None) -> str | None:
    """The id that a record has under this key, if any."""
    if key is None:
        return None
    try:
        value = json.loads(data).get(key)
    except (ValueError, AttributeError, RecursionError):
        return None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise NotARecordError(f"not JSON: {reason}; correct the line") from error
    if not isinstance(record, dict):
        raise NotARecordError(f"a JSON {type(record).__name__}, not an object; write one object a line")
    return record


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
