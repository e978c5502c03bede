"""Lists of documents in a file: JSON Lines or CSV with `path`, `id` and whatever else is known of each document.

A list may come from anybody, so a path in it names one file below a folder, as it stands: no pattern, no address, no
`~`, no variable, and nothing that leads out of the folder. Knows nothing of what the files hold.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jobs.errors import JobError, usage_error

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LARGEST_LINE: Final = 16 << 20
_SUFFIXES: Final = {".jsonl": "", ".ndjson": "", ".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Listed:
    """A document of a list: its absolute path, the id it was given or "", what else is known, and its line from 1."""

    path: str
    id: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    line: int = 0


def read_input_list(path: str, folder: str | None, metadata: Sequence[str] = ()) -> list[Listed]:
    """The documents of a list, in order. Paths are relative to `folder` (None: the list's own) and may not leave it.

    `metadata` names the keys or columns to keep; all others but `path` and `id` are kept if it names none. Raises
    JobError (exit 2) with file and line: no such list, not UTF-8, not JSON, no path, two lines of one path or id, a
    path that leads out of the folder or is an address.
    """
    separator = _SUFFIXES.get(os.path.splitext(path)[1].lower())
    if separator is None:
        raise usage_error("INPUT-LIST", f"a list of documents is one of {', '.join(_SUFFIXES)}; rename it", path)
    text = _text(path)
    rows = _of_table(text, separator, path) if separator else _of_lines(text, path)
    root = os.path.realpath(folder or os.path.dirname(path))
    found = [_listed(row, line, root, metadata, path) for line, row in rows]
    if not found:
        raise usage_error("INPUT-EMPTY", "this list names no document", path)
    _refuse_twice([(one.path, one.line) for one in found], "path", path)
    _refuse_twice([(one.id, one.line) for one in found], "id", path)
    return found


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise usage_error("INPUT-LIST", "not UTF-8; save this list as UTF-8", f"{path}:{line}") from error
    except OSError as error:
        message = f"{error.strerror}; correct the path in `inputs`"
        raise usage_error("INPUT-MISSING", message, path) from error


def _of_lines(text: str, path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(path, number, f"not JSON: {' '.join(str(error).split())}") from error
        if not isinstance(row, dict):
            raise _wrong(path, number, "not a JSON object")
        yield number, row


def _of_table(text: str, separator: str, path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(_LARGEST_LINE)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(rows, [])
        for row in rows:
            if not any(row):
                continue
            if len(row) != len(header):
                raise _wrong(path, rows.line_num, f"{len(row)} cells where the header has {len(header)}")
            yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise _wrong(path, rows.line_num, f"not a table: {error}") from error


def _listed(row: Mapping[str, Any], line: int, root: str, wanted: Sequence[str], where: str) -> Listed:
    path, given = row.get("path"), row.get("id")
    if not isinstance(path, str) or not path:
        raise _wrong(where, line, "no `path`")
    if _SCHEME.match(path):
        raise _wrong(where, line, f"{path!r} is an address; a list names files, addresses go into `inputs[].path`")
    if "\0" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise _wrong(where, line, "the `path` has characters that no file name has")
    whole = os.path.normpath(os.path.join(root, path))
    if not _is_below(whole, root) or not _is_below(os.path.realpath(whole), root):
        raise _wrong(where, line, f"{path!r} leads out of {root}; set inputs[].folder to allow it")
    if given is not None and not isinstance(given, str | int):
        raise _wrong(where, line, "the `id` is neither text nor a number")
    return Listed(whole, "" if given is None else str(given), _metadata(row, wanted), line)


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


def _metadata(row: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, str]:
    """What else a line says; an object under `metadata` stands for its keys."""
    nested = row.get("metadata")
    known = {**row, **nested} if isinstance(nested, dict) else dict(row)
    dropped = {"path", "id", "metadata"} if isinstance(nested, dict) else {"path", "id"}
    keys = wanted or [key for key in known if key not in dropped]
    return {key: _as_text(known[key]) for key in keys if known.get(key) is not None}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse_twice(values: Sequence[tuple[str, int]], what: str, where: str) -> None:
    seen: dict[str, int] = {}
    for value, line in values:
        if value and value in seen:
            raise _wrong(where, line, f"the {what} {value!r} stands in line {seen[value]} too")
        seen[value] = line


def _wrong(path: str, line: int, what: str) -> JobError:
    return usage_error("INPUT-LIST", f"{what}; correct this line", f"{path}:{line}")
