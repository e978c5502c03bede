"""What happened in a run, as JSON lines: for people who look later, and for whoever watches from another terminal.

Nothing is decided by these files and nothing is lost with them. They name documents and numbers, never their text. Only
what stands in `VOCABULARY` and `METRICS` is written; WATCHING.md tells people the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.outcome import Outcome
    from pipeline.pool import Loss
    from pipeline.work import Progress, WorkerFacts

_METRICS_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Kind:
    """An event: when it is noted, and its fields beside ts, level, event and run_id."""

    means: str
    fields: frozenset[str]
    level: str = "info"


def _fields(names: str) -> frozenset[str]:
    return frozenset(names.split())


VOCABULARY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "run_started": Kind("a process has taken the run over", _fields("epoch documents dtype")),
        "run_interrupted": Kind("it was asked to stop and has saved everything", _fields("signal")),
        "run_finished": Kind("the tables are written", _fields("documents failed")),
        "worker_ready": Kind("a worker has loaded the model", _fields("worker pid load_seconds")),
        "worker_lost": Kind(
            "a worker has ended; its documents go out again", _fields("worker cause reason doc_ids"), level="warning"
        ),
        "document_opened": Kind("a worker reads it, from that token on", _fields("worker doc_id tokens")),
        "position": Kind("where a worker's documents stand", _fields("worker tokens")),
        "checkpoint": Kind("some of them have been saved", _fields("worker count tokens")),
        "document_done": Kind("its rows are committed", _fields("doc_id tokens tokens_fed attempt")),
        "document_failed": Kind(
            "it has a row in `failures` instead",
            _fields("doc_id tokens tokens_fed attempt error_type"),
            level="warning",
        ),
        "warning": Kind("what the run also says on stderr", _fields("message"), level="warning"),
    }
)
METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "unspool_tokens_read_total": "tokens read by this process's workers since it started",
        "unspool_tokens_per_second": "of them, since the sample before; loading models left out",
        "unspool_documents_done_total": "documents committed since it started",
        "unspool_documents_failed_total": "documents that failed since it started",
        "unspool_checkpoints_total": "checkpoints written since it started",
        "unspool_lanes_active": "documents that are being read now",
        "unspool_rss_peak_bytes": "the most memory that the worker named in `worker` has had",
    }
)


class EventLog:
    """Appends to events.jsonl and, every few seconds, to metrics.jsonl. `tokens_fed` counts those of this process."""

    def __init__(self, events: Path, metrics: Path, run_id: str) -> None:
        self._events = events
        self._metrics = metrics
        self._run_id = run_id
        self.tokens_fed = 0
        self._open: dict[int, frozenset[str]] = {}
        self._done = self._failed = self._checkpoints = 0
        self._noted: dict[int, dict[str, int]] = {}
        self._sampled_at = time.monotonic()
        self._sampled_tokens = 0

    def note(self, event: str, **fields: Any) -> None:
        """Append one event of the vocabulary. Raises ValueError for another one, or other fields than it has."""
        kind = VOCABULARY.get(event)
        if kind is None or fields.keys() != kind.fields:
            raise ValueError(f"{event} with {sorted(fields)} is not in the vocabulary of events")
        self._append(self._events, {"level": kind.level, "event": event, "run_id": self._run_id, **fields})

    def ready(self, place: int, facts: WorkerFacts) -> None:
        self.note("worker_ready", worker=place, pid=facts.pid, load_seconds=round(facts.load_seconds, 3))
        self._sampled_at = time.monotonic()

    def moved(self, place: int, progress: Progress) -> None:
        self.tokens_fed += progress.tokens_fed
        self._checkpoints += progress.checkpoints
        self._note_positions(place, progress)
        now = time.monotonic()
        if now - self._sampled_at >= _METRICS_SECONDS and self.tokens_fed > self._sampled_tokens:
            rate = (self.tokens_fed - self._sampled_tokens) / (now - self._sampled_at)
            sample = {
                "unspool_tokens_read_total": self.tokens_fed,
                "unspool_tokens_per_second": round(rate, 1),
                "unspool_documents_done_total": self._done,
                "unspool_documents_failed_total": self._failed,
                "unspool_checkpoints_total": self._checkpoints,
                "unspool_lanes_active": sum(map(len, self._open.values())),
                "unspool_rss_peak_bytes": progress.peak_memory_bytes,
                "worker": place,
            }
            self._append(self._metrics, sample)
            self._sampled_at, self._sampled_tokens = now, self.tokens_fed

    def finished(self, outcome: Outcome) -> None:
        failed = outcome.status == "failed"
        self._done += not failed
        self._failed += failed
        # Not the message, which may quote the document: it stands in the ledger and in the table of failures.
        why = {"error_type": outcome.error_type} if failed else {}
        self.note(
            "document_failed" if failed else "document_done",
            doc_id=outcome.doc_id,
            tokens=outcome.tokens,
            tokens_fed=outcome.tokens_fed,
            attempt=outcome.attempt,
            **why,
        )

    def lost(self, loss: Loss, again: Sequence[str]) -> None:
        self._open.pop(loss.place, None)
        self.note("worker_lost", worker=loss.place, cause=loss.cause, reason=loss.reason, doc_ids=list(again))

    def warn(self, text: str) -> None:
        self.note("warning", message=text)

    def _note_positions(self, place: int, progress: Progress) -> None:
        """Where every open document stands, once a call: how much a crash costs can be read off these lines."""
        for lane in progress.lanes:
            if lane.doc_id not in self._open.get(place, ()):
                self.note("document_opened", worker=place, doc_id=lane.doc_id, tokens=lane.resumed_from)
        self._open[place] = frozenset(lane.doc_id for lane in progress.lanes)
        positions = {lane.doc_id: lane.tokens for lane in progress.lanes}
        if progress.checkpoints:
            self.note("checkpoint", worker=place, count=progress.checkpoints, tokens=positions)
        elif positions and positions != self._noted.get(place):
            self.note("position", worker=place, tokens=positions)
        self._noted[place] = positions

    def _append(self, path: Path, fields: dict[str, Any]) -> None:
        stamped = {"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        # Nothing depends on it: a full disk is to be noticed where what counts is written, so that the run ends well.
        with suppress(OSError), open(path, "a", encoding="utf-8", opener=_private) as file:
            file.write(json.dumps(stamped, ensure_ascii=False) + "\n")


def _private(path: str, flags: int) -> int:
    """For its owner only, whatever the umask."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
