"""The records of a ledger: what each kind says, and how it stands in a file.

A record file is one line of canonical JSON and one line with the sha256 of that line (newline included). What is read
is held against the types that the records declare. Knows nothing of what records mean together: that is jobs/ledger.py.
"""

from __future__ import annotations

import json
import os
import socket
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

from pipeline.durable import json_line, seal
from pipeline.parts import Part

VERSION: Final = 1
_HEADER: Final = frozenset({"v", "seq", "epoch", "prev", "t"})


@dataclass(frozen=True)
class Finished:
    """A document whose rows are complete. `parts` of one table are in the order of their rows.

    `status` is the one of its row in `documents`. `seconds` and `attempts` are for people and stay out of the tables.
    """

    doc_id: str
    status: str
    parts: tuple[Part, ...]
    source_sha256: str | None = None
    tokens: int = 0
    seconds: float = 0.0
    attempts: int = 1

    def parts_of(self, table: str) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.table == table)

    def rows(self, table: str) -> int:
        return sum(part.rows for part in self.parts_of(table))


@dataclass(frozen=True)
class Epoch:
    """A driver took the run over."""

    kind: ClassVar[str] = "epoch"
    host: str
    pid: int
    boot_id: str
    reason: str
    versions: Mapping[str, str]

    @classmethod
    def of_this_process(cls, reason: str, versions: Mapping[str, str]) -> Epoch:
        return cls(socket.gethostname(), os.getpid(), boot_id(), reason, versions)


@dataclass(frozen=True)
class Done:
    """Documents were read; one record may commit a group of them."""

    kind: ClassVar[str] = "done"
    documents: tuple[Finished, ...]


@dataclass(frozen=True)
class Rows:
    """More rows of a document that is followed: `parts` stand behind those of its earlier records of this kind."""

    kind: ClassVar[str] = "rows"
    doc_id: str
    parts: tuple[Part, ...]
    tokens: int


@dataclass(frozen=True)
class Quarantine:
    """A document failed for good. Its parts hold its rows of `documents` and `failures`."""

    kind: ClassVar[str] = "quarantine"
    document: Finished
    reason: str
    retryable: bool


@dataclass(frozen=True)
class Attempt:
    """A document took its worker down; committed before it is tried again, so that it is counted whatever happens."""

    kind: ClassVar[str] = "attempt"
    doc_id: str
    number: int
    cause: str


@dataclass(frozen=True)
class Invalidate:
    """Documents are to be read again: a part is damaged, or the user asked for it. Their attempts start anew."""

    kind: ClassVar[str] = "invalidate"
    doc_ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Numerics:
    """A numeric fingerprint that workers of this epoch reported, and what they said of themselves with it."""

    kind: ClassVar[str] = "numerics"
    fingerprint: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class SpecNote:
    """The job file changed in ways that change no row."""

    kind: ClassVar[str] = "spec_note"
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Pause:
    """The driver stopped in good order before the end."""

    kind: ClassVar[str] = "pause"
    reason: str


@dataclass(frozen=True)
class OutputFile:
    """A file below `output/`; `path` is relative to it, with slashes."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Output:
    """`output/` is complete and holds exactly these files."""

    kind: ClassVar[str] = "final"
    files: tuple[OutputFile, ...]


Record: TypeAlias = Epoch | Done | Rows | Quarantine | Attempt | Invalidate | Numerics | SpecNote | Pause | Output


_KINDS: Final[Mapping[str, type[Record]]] = MappingProxyType({kind.kind: kind for kind in typing.get_args(Record)})


@dataclass(frozen=True)
class Entry:
    """A record with its place in the chain: `previous` is the sha256 of the record file before it."""

    seq: int
    epoch: int
    previous: str
    record: Record

    def to_bytes(self) -> bytes:
        """The record file."""
        header = {"v": VERSION, "seq": self.seq, "epoch": self.epoch, "prev": self.previous}
        return seal(json_line({**header, "t": self.record.kind, **_plain(self.record)}))

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """From the first line of a record file. Raises ValueError if that is no record of this version."""
        data = json.loads(line)
        if not isinstance(data, dict) or not data.keys() >= _HEADER:
            raise ValueError("not a ledger record")
        if data["v"] != VERSION:
            raise ValueError(f"a record of version {data['v']!r}, this program knows version {VERSION}")
        if data["t"] not in _KINDS:
            raise ValueError(f"a record of the unknown kind {data['t']!r}")
        payload = {key: value for key, value in data.items() if key not in _HEADER}
        place = (_value(int, data["seq"]), _value(int, data["epoch"]), _value(str, data["prev"]))
        return cls(*place, _value(_KINDS[data["t"]], payload))


def finished_by(record: Record) -> tuple[Finished, ...]:
    """The documents that a record finishes."""
    if isinstance(record, Done):
        return record.documents
    return (record.document,) if isinstance(record, Quarantine) else ()


def boot_id() -> str:
    """What tells this boot of the machine from others, or an empty string where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _value(kind: Any, data: Any) -> Any:
    """`data` from JSON as a value of the annotated type `kind`. Raises ValueError if it is none."""
    return _reader(kind)(data)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What `_value` does for one type, put together once: a ledger may hold millions of values."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # only `… | None` occurs
        inner = _reader(arguments[0])
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda data: tuple([item(one) for one in data]) if type(data) is list else _refuse(kind, data)
    if origin is Mapping:
        item = _reader(arguments[1])
        return lambda data: {key: item(one) for key, one in data.items()} if type(data) is dict else _refuse(kind, data)
    if kind in (str, int, float, bool):
        return lambda data: data if type(data) is kind else _refuse(kind, data)
    return _dataclass_reader(kind)


def _dataclass_reader(kind: type[Any]) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = [(item.name, _reader(hints[item.name])) for item in fields(kind)]
    names = {name for name, _ in readers}

    def read(data: Any) -> Any:
        if type(data) is not dict or data.keys() != names:
            return _refuse(kind, data)
        return kind(*[reader(data[name]) for name, reader in readers])

    return read


def _refuse(kind: Any, data: Any) -> typing.NoReturn:
    raise ValueError(f"{str(data)[:80]!r} stands where {getattr(kind, '__name__', kind)} is expected")
