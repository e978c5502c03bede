"""Checkpoints: where the reading of one document stands, in one Arrow file whose name holds its hash.

State, position, the tasks' memory and rows not yet in a part are one object, so a checkpoint is wholly there or
not at all. It is an Arrow IPC *file* with one row, read whole after its hash has been checked: Arrow has no
checksum of its own. What only the runtime understands (a state) is kept as the runtime's own bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pyarrow as pa

from pipeline.durable import Disk, Point, read_bytes, sha256_hex
from pipeline.errors import CheckpointError
from pipeline.parts import Attempt, Part
from pipeline.values import Value, from_json, to_json

FORMAT: Final = "unspool.checkpoint"
MAJOR: Final = 1
MINOR: Final = 0
_NAME: Final = re.compile(r"(\d{12})-e(\d+)a(\d+)-([0-9a-f]{32})\.arrow")


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to. It is used only where every field matches.

    `source_sha256` stands for the text that was read: the sum of its source, or of that and of how it was decoded.
    """

    run_id: str
    doc_id: str
    source_sha256: str
    model: str
    spec: str
    numeric: str


@dataclass(frozen=True)
class Checkpoint:
    """A standing reading: states as the runtime's bytes, memory as plain values, rows by table, parts so far."""

    identity: Identity
    tokens: int
    state: bytes
    boundary: bytes | None
    memory: Mapping[str, Value]
    pending: Mapping[str, pa.Table]
    parts: tuple[Part, ...]


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as an Arrow IPC file of one row."""
    pending = {name: _table_bytes(rows) for name, rows in sorted(checkpoint.pending.items())}
    columns = {
        "state": pa.array([checkpoint.state], pa.binary(len(checkpoint.state))),
        "boundary": pa.array([checkpoint.boundary], pa.binary()),
        "memory": pa.array([to_json(checkpoint.memory)], pa.string()),
        "parts": pa.array([to_json([asdict(part) for part in checkpoint.parts])], pa.string()),
        **{f"pending.{name}": pa.array([data], pa.binary()) for name, data in pending.items()},
    }
    marks = {"format": FORMAT, "major": str(MAJOR), "minor": str(MINOR), "tokens": str(checkpoint.tokens)}
    table = pa.table(columns).replace_schema_metadata({**marks, **asdict(checkpoint.identity)})
    return _table_bytes(table)


def from_bytes(data: bytes) -> Checkpoint:
    """Read what `to_bytes` wrote, from bytes whose hash has been checked. Raises CheckpointError."""
    try:
        table = _table(data)
        marks = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if marks.get("format") != FORMAT or int(marks["major"]) > MAJOR:
            raise CheckpointError(
                f"checkpoint format {marks.get('format')} {marks.get('major')} is newer than {FORMAT} {MAJOR}"
            )
        row = {name: table.column(name)[0].as_py() for name in table.column_names}
        parts = cast("list[Any]", from_json(row["parts"]))
        return Checkpoint(
            identity=Identity(**{name: marks[name] for name in Identity.__dataclass_fields__}),
            tokens=int(marks["tokens"]),
            state=row["state"],
            boundary=row["boundary"],
            memory=cast("Mapping[str, Value]", from_json(row["memory"])),
            pending={
                name.removeprefix("pending."): _table(value)
                for name, value in row.items()
                if name.startswith("pending.")
            },
            parts=tuple(Part(**part) for part in parts),
        )
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"not a readable checkpoint: {error}") from error


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run, one folder a document."""

    run: Path
    disk: Disk
    keep: int = 2

    def save(self, checkpoint: Checkpoint, attempt: Attempt) -> Path:
        """Publish a checkpoint, then remove all but the newest `keep` of its document. Raises OSError."""
        data = to_bytes(checkpoint)
        folder = self._folder(attempt.doc_id)
        self.disk.make_folder(folder)
        path = folder / f"{checkpoint.tokens:012d}-{attempt.mark}-{sha256_hex(data)[:32]}.arrow"
        self.disk.reach(Point.CHECKPOINT_BEFORE_WRITE)
        self.disk.publish(path, data)
        self.disk.reach(Point.CHECKPOINT_AFTER_WRITE)
        for old in self._newest_first(attempt.doc_id)[self.keep :]:
            # A worker that was given up may still be writing: it must not remove what its successors rely on.
            if _age(old).epoch <= attempt.epoch:
                self.disk.remove(old)
        return path

    def newest(self, identity: Identity) -> tuple[Checkpoint | None, Sequence[str]]:
        """The newest checkpoint that is whole and belongs to `identity`, and why newer ones were passed over."""
        refused: list[str] = []
        for path in self._newest_first(identity.doc_id):
            try:
                return self._load(path, identity), refused
            except (CheckpointError, OSError) as error:
                refused.append(f"{path.name}: {error}")
        return None, refused

    def references(self, doc_ids: Sequence[str]) -> set[str]:
        """Every checkpoint of these documents that is whole, and the parts it names, relative to the run."""
        named: set[str] = set()
        for doc_id in doc_ids:
            for path in self._newest_first(doc_id):
                with suppress(CheckpointError, OSError):
                    named.update(part.path for part in _read(path).parts)
                    named.add(path.relative_to(self.run).as_posix())
        return named

    def clear(self, doc_id: str) -> None:
        """Remove the checkpoints of a document that is done with."""
        folder = self._folder(doc_id)
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                self.disk.remove(path)
            with suppress(OSError):  # a worker that was given up may have written another one
                folder.rmdir()

    def _load(self, path: Path, identity: Identity) -> Checkpoint:
        checkpoint = _read(path)
        for key, expected in asdict(identity).items():
            found = getattr(checkpoint.identity, key)
            if found != expected:
                raise CheckpointError(f"it belongs to another {key} ({found[:12]}, now {expected[:12]})")
        for part in checkpoint.parts:
            path = self.run / part.path
            if not path.is_file() or path.stat().st_size != part.bytes:
                raise CheckpointError(f"the part {part.path} that it names is missing or cut short")
        return checkpoint

    def _newest_first(self, doc_id: str) -> list[Path]:
        folder = self._folder(doc_id)
        names = (path for path in folder.iterdir() if _NAME.fullmatch(path.name)) if folder.is_dir() else ()
        return sorted(names, key=_age, reverse=True)

    def _folder(self, doc_id: str) -> Path:
        return self.run / "checkpoints" / doc_id


def _read(path: Path) -> Checkpoint:
    data = read_bytes(path)
    name = _NAME.fullmatch(path.name)
    if name is None or sha256_hex(data)[:32] != name[4]:
        raise CheckpointError("its content does not match the hash in its name")
    return from_bytes(data)


class _Age(NamedTuple):
    """What tells checkpoints of one document apart, the newest being the largest.

    The try counts before the position: a later one starts from the newest checkpoint that it can use, so one that
    stands further on and is older is of no use to it, as when the arithmetic has changed.
    """

    epoch: int
    attempt: int
    tokens: int


def _age(path: Path) -> _Age:
    name = _NAME.fullmatch(path.name)
    return _Age(int(name[2]), int(name[3]), int(name[1])) if name else _Age(0, 0, 0)


def _table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _table(data: bytes) -> pa.Table:
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table
