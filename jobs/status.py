"""How a run stands, read off its directory alone: from another terminal, from another machine, long afterwards."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jobs.following import FOLLOWING
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import read_manifests
from jobs.plan import newest_checkpoint
from jobs.run_directory import RunDirectory
from pipeline.durable import Disk

_TAIL_BYTES: Final = 65_536


@dataclass(frozen=True)
class OpenDocument:
    """A document that has a checkpoint and is not finished."""

    doc_id: str
    uri: str
    tokens: int


@dataclass(frozen=True)
class Failure:
    """A document that was given up."""

    doc_id: str
    uri: str
    reason: str


@dataclass(frozen=True)
class Status:
    """`state` is finished, running, following (running without an end), or stopped.

    Ages are in seconds, None where there is nothing to tell.
    """

    run: str
    name: str
    state: str
    documents: int
    done: int
    failed: int
    bytes_total: int
    bytes_done: int
    tokens: int
    tokens_per_second: float | None
    epoch: int
    owner: str
    last_event: str | None
    last_event_age: float | None
    last_checkpoint_age: float | None
    open: tuple[OpenDocument, ...]
    failures: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def status_of(path: Path) -> Status:
    """Read a run directory. Nothing is written, locked or waited for. Raises JobError (exit 4, 6)."""
    run = RunDirectory.open(path, Disk())
    view = RunLedger.read(run.ledger)
    entries = read_manifests(run.manifests())
    finished = view.finished_ids()
    uris = {entry.doc_id: entry.uri for entry in entries}
    standing = [(entry, newest_checkpoint(path, entry.doc_id)) for entry in entries if entry.doc_id not in finished]
    event, event_age = _last(run.events)
    sample, sample_age = _last(run.metrics)
    is_final = view.final is not None
    return Status(
        run=str(path),
        name=str(run.info.spec.get("name", "")),
        state="finished" if is_final else _at_work(view) if _is_locked(path) else "stopped",
        documents=len(entries),
        done=len(view.done),
        failed=len(view.quarantined),
        bytes_total=sum(entry.size for entry in entries),
        bytes_done=sum(entry.size for entry in entries if entry.doc_id in finished),
        tokens=sum(document.tokens for document in view.done.values()),
        tokens_per_second=None if is_final or (sample_age or 60) > 30 else sample.get("unspool_tokens_per_second"),
        epoch=view.epoch,
        owner=f"process {view.owner.pid} on {view.owner.host}" if view.owner else "",
        last_event=event.get("event"),
        last_event_age=event_age,
        last_checkpoint_age=_checkpoint_age(path),
        open=tuple(OpenDocument(entry.doc_id, entry.uri, tokens) for entry, tokens in standing if tokens is not None),
        failures=tuple(
            Failure(doc_id, uris.get(doc_id, doc_id), record.reason) for doc_id, record in view.quarantined.items()
        ),
    )


def _at_work(view: LedgerView) -> str:
    return "following" if view.owner and view.owner.reason == FOLLOWING else "running"


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(path / "LOCK", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _checkpoint_age(path: Path) -> float | None:
    newest: float | None = None
    for file in path.glob("checkpoints/*/*.arrow"):
        with suppress(FileNotFoundError):  # a run that goes on removes old ones
            newest = max(file.stat().st_mtime, newest or 0.0)
    return None if newest is None else max(datetime.now(UTC).timestamp() - newest, 0.0)


def _last(path: Path) -> tuple[dict[str, Any], float | None]:
    """The last whole line of a file of JSON lines, and its age; the writer may be in the middle of another."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = deque(file.read().splitlines(keepends=True), maxlen=2)
    except OSError:
        return {}, None
    for line in reversed(lines):
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            continue
        if isinstance(value, dict) and "ts" in value:
            return value, (datetime.now(UTC) - datetime.fromisoformat(value["ts"])).total_seconds()
    return {}, None
