"""Which column or field of a file of records holds the text, for a first job file: a guess that its reader can correct.

Only the beginning of a file is looked at. Knows nothing of how records are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

_LOOKED_AT_BYTES: Final = 65_536
_LOOKED_AT_RECORDS: Final = 50
_DELIMITERS: Final = (",", ";", "\t", "|")
_TEXTS: Final = ("text", "body", "content", "document", "message", "abstract", "description")
_IDS: Final = ("id", "doc_id", "uuid", "key")


@dataclass(frozen=True)
class Columns:
    """The names of what looks like the text and the id of a record; `text` is the reader's own default."""

    text: str = "text"
    id: str | None = None


def columns_of(path: Path) -> Columns:
    """What to call text and id in a CSV, TSV or JSONL file; defaults for others and for those that are unsound."""
    read = {".csv": _csv_records, ".tsv": _csv_records, ".jsonl": _json_records, ".ndjson": _json_records}
    if (records := read.get(path.suffix.lower())) is None:
        return Columns()
    try:
        with path.open("rb") as file:
            data = file.read(_LOOKED_AT_BYTES)
        whole = data[: data.rfind(b"\n") + 1] if len(data) == _LOOKED_AT_BYTES else data
        found = list(islice(records(whole.decode("utf-8-sig", "replace")), _LOOKED_AT_RECORDS))
    except (OSError, ValueError, csv.Error):
        return Columns()
    return _chosen(found)


def _chosen(records: list[Mapping[str, str]]) -> Columns:
    """By its name, or else what is longest. An id must tell the records apart."""
    names = list(dict.fromkeys(name for record in records for name in record))
    if not names:
        return Columns()
    by_name = {name.strip().lower(): name for name in reversed(names)}
    text = next((by_name[name] for name in _TEXTS if name in by_name), None)
    if text is None:
        text = max(names, key=lambda name: sum(len(record.get(name, "")) for record in records))
    ids = (by_name[name] for name in _IDS if name in by_name and by_name[name] != text)
    unique = (name for name in ids if len({record.get(name) for record in records}) == len(records))
    return Columns(text, next(unique, None))


def _csv_records(text: str) -> Iterator[Mapping[str, str]]:
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    for record in csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""):
        yield {name: value for name, value in record.items() if name is not None and isinstance(value, str)}


def _json_records(text: str) -> Iterator[Mapping[str, str]]:
    for line in text.splitlines():
        record = json.loads(line)
        if isinstance(record, dict):
            yield {name: str(value) for name, value in record.items() if isinstance(value, (str, int))}
