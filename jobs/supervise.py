"""Hands documents to workers and commits what comes back: the loop of a run.

Documents go out largest first, so that no long one is left to be read alone at the end. A worker that is lost, or that
hangs and is ended for it, is replaced, and its documents go out again, each from its newest checkpoint; a document that
was lost too often is given up, with rows that say so. Only this loop commits. Knows nothing of job files or of what the
tasks are.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from jobs.errors import ExitCode, JobError
from jobs.ledger import RunLedger
from jobs.patience import Patience
from jobs.records import Attempt as LostAttempt
from jobs.records import Done, Finished, Invalidate, Numerics, Pause, Quarantine, Rows
from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
from pipeline.last_words import Crash
from pipeline.outcome import Outcome, failed
from pipeline.parts import Attempt, Part, PartWriter
from pipeline.pool import Answer, Loss, Pool
from pipeline.work import Assignment

if TYPE_CHECKING:
    from pipeline.work import Grown, Progress, WorkerFacts

_CALL_SECONDS: Final = 1.0
_GROUP_SECONDS: Final = 1.0
_GROUP_DOCUMENTS: Final = 64
_LOSSES_WITHOUT_PROGRESS: Final = 5
_NODES_FORGIVEN: Final = 10
_FAILURES_COUNT_FROM: Final = 50
_DRAIN_SECONDS: Final = 25.0
_WHY_LOST: Final = MappingProxyType(
    {"crashed": "it crashed", "memory": "there was no memory left", "hung": "it stopped answering"}
)


class Watcher(Protocol):
    """What wants to know how a run goes: the progress display, the event log. Called in this order of life."""

    def ready(self, place: int, facts: WorkerFacts) -> None: ...

    def moved(self, place: int, progress: Progress) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...

    def lost(self, loss: Loss, again: Sequence[str]) -> None: ...

    def warn(self, text: str) -> None: ...


class Following(Protocol):
    """What becomes of documents that are followed: their rows are shown, and another file may take their place."""

    def show(self, doc_id: str, parts: Sequence[Part]) -> None: ...

    def successor(self, doc_id: str) -> DocumentRef | None: ...


@dataclass(frozen=True)
class Limits:
    """When a run gives up. `max_failed` is a share of all its `documents`, counted once 50 have been seen to."""

    retries: int
    max_failed: float
    documents: int
    fail_fast: bool = False


@dataclass
class _Place:
    """A worker's place: what it reads, and whether it can be given more."""

    ready: bool = False
    called: bool = False
    draining: bool = False
    fresh: bool = True
    reading: dict[str, Attempt] = field(default_factory=dict)


class Supervisor:
    """Runs a pool over documents until none is left. Owns the queue; the ledger and the pool are handed in."""

    def __init__(
        self,
        pool: Pool,
        ledger: RunLedger,
        refs: Sequence[DocumentRef],
        lanes: int,
        limits: Limits,
        writer: PartWriter,
        watcher: Watcher,
        quarantine: Path,
        clear_checkpoints: Callable[[str], None],
        stop_requested: Callable[[], bool],
        patience: Patience,
        following: Following | None = None,
        crashes: Sequence[Crash] = (),
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._refs = {ref.doc_id: ref for ref in refs}
        self._queue: deque[DocumentRef] = deque()
        self._crashes = crashes
        self._lanes = lanes
        self._following = following
        self._limits = limits
        self._writer = writer
        self._watcher = watcher
        self._quarantine = quarantine
        self._clear_checkpoints = clear_checkpoints
        self._stop_requested = stop_requested
        self._patience = patience
        self._places = {place: _Place() for place in range(min(pool.size, max(len(refs), 1)))}
        self._uncommitted: list[tuple[Outcome, float]] = []
        self._group_since = time.monotonic()
        self._started: dict[str, float] = {}
        self._losses = 0
        self._nodes_lost: Counter[str] = Counter()
        self._has_read = bool(ledger.view.done)
        self._failures = len(ledger.view.quarantined)
        self._seen = len(ledger.view.finished_ids())

    def run(self) -> bool:
        """Read everything. True if it is done, False if it was stopped in good order before the end.

        Raises JobError: the disk fails (6), too many failures (8), another driver took over (5); whatever the
        workers raise because the model cannot be loaded.
        """
        self._line_up(self._count_crashes())
        for place in self._places if self._queue else ():
            self._start(place)
        while self._left() or self._uncommitted:
            if self._stop_requested():
                return self._stop()
            for answer in self._pool.wait(_CALL_SECONDS):
                self._take(answer)
            self._end_hung_workers()
            if not self._left():
                self._commit()  # another document may take the place of one that is over
            self._commit_if_due()
            self._hand_out()
        return True

    def _line_up(self, given_up: Set[str]) -> None:
        """What is followed goes first, then large before small; what has lost a worker before may do so again."""
        left = [ref for ref in self._refs.values() if ref.doc_id not in given_up]
        order = sorted(left, key=lambda ref: (not ref.follows, self._is_suspect(ref.doc_id), -ref.size))
        self._queue = deque(order)

    def _count_crashes(self) -> set[str]:
        """Count crashes of earlier lives, in which documents were read by the driver's own process and nobody was left.

        Returns the documents that are given up for it.
        """
        given_up: set[str] = set()
        for crash in self._crashes:
            loss = Loss(0, "crashed", "an earlier process of this run crashed", crash.reason)
            read = [doc_id for doc_id in crash.doc_ids if doc_id in self._refs and doc_id not in given_up]
            given_up.update(doc_id for doc_id in read if not self._may_try_again(doc_id, loss))
            uris = ", ".join(self._refs[doc_id].uri for doc_id in read) or "what is done by now"
            self._watcher.warn(f"{loss.message} ({crash.reason}) while it read {uris}; its stack is in quarantine/")
        return given_up

    def _left(self) -> bool:
        return bool(self._queue) or any(place.reading for place in self._places.values())

    def _start(self, place: int) -> None:
        self._places[place] = _Place(called=True)
        self._pool.start(place)

    def _hand_out(self) -> None:
        """Call every worker that waits and has something to read, with new documents where it has room."""
        for number, place in self._places.items():
            if not place.ready or place.called:
                continue
            if self._wants_a_fresh_worker(place):
                self._pool.abandon(number, "replaced before it reads what has lost a worker")
                self._start(number)
                continue
            new = self._next_for(place)
            if new or place.reading:
                self._call(number, place, new)

    def _wants_a_fresh_worker(self, place: _Place) -> bool:
        """Whether a suspect is next, and all workers have read something that may be to blame for its loss."""
        if not self._queue or not self._is_suspect(self._queue[0].doc_id):
            return False
        return not place.reading and not any(one.fresh for one in self._places.values())

    def _next_for(self, place: _Place) -> list[DocumentRef]:
        """Documents for a place with room. One that has lost a worker may lose another: a fresh one reads it alone."""
        if not self._queue or any(map(self._is_suspect, place.reading)):
            return []
        if self._is_suspect(self._queue[0].doc_id):
            return [self._queue.popleft()] if place.fresh else []
        new: list[DocumentRef] = []
        while self._queue and len(place.reading) + len(new) < self._lanes:
            if self._is_suspect(self._queue[0].doc_id):
                break
            new.append(self._queue.popleft())
        return new

    def _is_suspect(self, doc_id: str) -> bool:
        """Whether it has lost a worker. What is followed is never read alone: the others would wait without end."""
        return not self._refs[doc_id].follows and self._ledger.view.attempts.get(doc_id, 0) > 0

    def _call(self, number: int, place: _Place, new: Sequence[DocumentRef]) -> None:
        assignments = [
            Assignment(ref, self._ledger.epoch, self._ledger.view.attempts.get(ref.doc_id, 0) + 1) for ref in new
        ]
        for given in assignments:
            place.reading[given.ref.doc_id] = Attempt(given.ref.doc_id, given.epoch, given.attempt)
            self._started[given.ref.doc_id] = time.monotonic()
        place.called, place.fresh = True, False
        self._patience.begin(number, new)
        self._pool.advance(number, assignments, _CALL_SECONDS)

    def _end_hung_workers(self) -> None:
        for number, seconds in self._patience.overdue().items():
            self._lose(self._pool.abandon(number, f"no answer for {seconds:.0f} s"))

    def _take(self, answer: Answer | Loss) -> None:
        if isinstance(answer, Loss):
            self._lose(answer)
            return
        self._patience.end(answer.place)
        place = self._places[answer.place]
        place.called = False
        if answer.facts is not None:
            place.ready = True
            self._note_numerics(answer.facts)
            self._watcher.ready(answer.place, answer.facts)
        if answer.progress is not None:
            self._move(answer.place, answer.progress)

    def _note_numerics(self, facts: WorkerFacts) -> None:
        known = self._ledger.view.numerics
        if facts.numeric in known:
            return
        if known:
            self._watcher.warn(
                f"this machine computes other bits ({facts.numeric[:12]}) than the one that began the run "
                f"({next(iter(known))[:12]}): documents that were open there start anew"
            )
        noted = {"pooling": facts.pooling, "dimensions": str(facts.dimensions), "generation": facts.generation}
        self._ledger.commit(Numerics(facts.numeric, {**noted, "dtype": facts.dtype, **facts.versions}))

    def _move(self, number: int, progress: Progress) -> None:
        place = self._places[number]
        for warning in progress.warnings:
            self._watcher.warn(warning)
        self._watcher.moved(number, progress)
        for grown in progress.grown:
            if place.reading.get(grown.doc_id) == Attempt(grown.doc_id, grown.epoch, grown.attempt):
                self._commit_rows(grown)
        for outcome in progress.outcomes:
            mine = place.reading.get(outcome.doc_id)
            # A late answer of an earlier try names files that nobody will refer to.
            if mine == Attempt(outcome.doc_id, outcome.epoch, outcome.attempt):
                del place.reading[outcome.doc_id]
                self._see_to(outcome)
        if progress.fault:
            self._commit()
            self._ledger.commit(Pause(progress.fault))
            raise JobError(
                "RUN-DISK", f"{progress.fault}; make room or mend it, then run again", exit_code=ExitCode.ENVIRONMENT
            )

    def _commit_rows(self, grown: Grown) -> None:
        """Make the rows a fact that a document which is followed has so far."""
        before = self._ledger.view.growing.get(grown.doc_id)
        known = before.parts if before else ()
        if grown.parts[: len(known)] != known:
            self._watcher.warn(f"{self._refs[grown.doc_id].uri} was read anew; the rows there were are replaced")
            self._ledger.commit(Invalidate((grown.doc_id,), "read anew"))
            known = ()
        if len(grown.parts) > len(known):
            self._ledger.commit(Rows(grown.doc_id, grown.parts[len(known) :], grown.tokens))
        if self._following:
            self._following.show(grown.doc_id, grown.parts)

    def _see_to(self, outcome: Outcome) -> None:
        took = time.monotonic() - self._started.pop(outcome.doc_id, time.monotonic())
        self._uncommitted.append((outcome, took))
        self._seen += 1
        if outcome.status == "failed":
            self._failures += 1
        else:
            self._losses, self._has_read = 0, True
        if outcome.status == "failed" and self._limits.fail_fast:
            self._abort(f"{self._refs[outcome.doc_id].uri}: {outcome.message} (--fail-fast)")
        if self._seen >= _FAILURES_COUNT_FROM and self._failures > self._limits.max_failed * self._limits.documents:
            self._abort(
                f"{self._failures} of {self._limits.documents} documents have failed, more than on_error.max_failed "
                f"({self._limits.max_failed:.0%}) allows; look at the failures table or raise it"
            )

    def _lose(self, loss: Loss) -> None:
        """A worker died: count it against what it was reading, and replace it."""
        self._patience.forget(loss.place)
        place = self._places[loss.place]
        again = list(place.reading)
        # Where documents are read, one that is lost again is to blame for it itself: there is an end to such losses.
        # A node takes all its workers along at once: how many those were says nothing of the others.
        if loss.cause != "node" and not (again and self._has_read and all(map(self._is_suspect, again))):
            self._losses += 1
        for doc_id in again:
            if loss.cause == "node" and self._nodes_lost[doc_id] < _NODES_FORGIVEN:
                self._nodes_lost[doc_id] += 1  # no document is to blame, unless it is there each time
                self._queue.append(self._refs[doc_id])
                continue
            if self._may_try_again(doc_id, loss):
                self._queue.append(self._refs[doc_id])
        self._watcher.lost(loss, again)
        if self._losses >= _LOSSES_WITHOUT_PROGRESS:
            self._abort(
                f"{self._losses} workers were lost without one document finished in between, the last with: "
                f"{loss.message}; this looks like the machine, not the documents"
            )
        self._start(loss.place)

    def _may_try_again(self, doc_id: str, loss: Loss) -> bool:
        """Count a loss against a document, durably, and give it up if that was one too many."""
        number = self._ledger.view.attempts.get(doc_id, 0) + 1
        if number > self._limits.retries:
            self._give_up(doc_id, Attempt(doc_id, self._ledger.epoch, number), loss, number)
            return False
        self._ledger.commit(LostAttempt(doc_id, number, loss.cause))
        return True

    def _give_up(self, doc_id: str, attempt: Attempt, loss: Loss, times: int) -> None:
        # Nothing here may differ from run to run: it stands in the tables.
        why = _WHY_LOST.get(loss.cause, "it could not be reached") + (f" ({loss.reason})" if loss.reason else "")
        message = f"the worker reading it was lost {times} times, the last time because {why}"
        error = DocumentError("read", f"worker_{loss.cause}", message, retryable=True)
        self._see_to(failed(self._refs[doc_id], attempt, error, self._writer))

    def _stop(self) -> bool:
        """Have every worker save what it reads, commit what is finished, and leave.

        One that does not answer in time is left: its documents go on from their newest checkpoints.
        """
        waiting: set[int] = set()
        for number, place in self._places.items():
            if not place.ready:
                continue  # nothing is read yet where the model is still being loaded
            if place.reading and not place.called:
                self._pool.drain(number)
                place.called = place.draining = True
            if place.called:
                waiting.add(number)
        until = time.monotonic() + _DRAIN_SECONDS
        while waiting and time.monotonic() < until:
            for answer in self._pool.wait(_CALL_SECONDS):
                waiting -= self._stopped(answer)
        for number in waiting:
            self._pool.abandon(number, "not saved in time")
            self._watcher.warn(
                f"worker {number} did not save within {_DRAIN_SECONDS:.0f} s; what it read goes on later"
            )
        self._commit()
        self._ledger.commit(Pause("interrupted"))
        return False

    def _stopped(self, answer: Answer | Loss) -> set[int]:
        """The place that has nothing left to save, if the answer says so."""
        if isinstance(answer, Loss) or answer.progress is None:
            return {answer.place}
        place = self._places[answer.place]
        self._move(answer.place, answer.progress)
        if place.reading and not place.draining:
            place.draining = True
            self._pool.drain(answer.place)
            return set()
        return {answer.place}

    def _abort(self, message: str) -> None:
        self._commit()
        self._ledger.commit(Pause("aborted"))
        raise JobError("RUN-ABORTED", message, exit_code=ExitCode.ABORTED)

    def _commit_if_due(self) -> None:
        waited = time.monotonic() - self._group_since
        if len(self._uncommitted) >= _GROUP_DOCUMENTS or (self._uncommitted and waited >= _GROUP_SECONDS):
            self._commit()

    def _commit(self) -> None:
        """Make what is finished a fact, then remove what it has made superfluous."""
        group, self._uncommitted = self._uncommitted, []
        self._group_since = time.monotonic()
        read = tuple(_finished(outcome, took) for outcome, took in group if outcome.status != "failed")
        if read:
            self._ledger.commit(Done(read))
        for outcome, took in group:
            if outcome.status == "failed":
                reason = f"{outcome.error_type}: {outcome.message}"
                self._keep_traceback(outcome)
                self._ledger.commit(Quarantine(_finished(outcome, took), reason, retryable=outcome.retryable))
        for outcome, _ in group:
            if not outcome.retryable:
                self._clear_checkpoints(outcome.doc_id)
            self._watcher.finished(outcome)
            self._go_on_behind(outcome)

    def _go_on_behind(self, outcome: Outcome) -> None:
        """Read on in the file that has taken the place of one that was followed."""
        if self._following is None or outcome.status == "failed":
            return
        self._following.show(outcome.doc_id, outcome.parts)
        if (ref := self._following.successor(outcome.doc_id)) is not None:
            self._refs[ref.doc_id] = ref
            self._queue.append(ref)

    def _keep_traceback(self, outcome: Outcome) -> None:
        if outcome.traceback:
            path = self._quarantine / f"{outcome.doc_id}.txt"
            self._writer.disk.publish(path, outcome.traceback.encode("utf-8", "backslashreplace"))


def _finished(outcome: Outcome, seconds: float) -> Finished:
    return Finished(
        outcome.doc_id,
        outcome.status,
        outcome.parts,
        outcome.source_sha256 or None,
        outcome.tokens,
        round(seconds, 3),
        outcome.attempt,
    )


@dataclass(frozen=True)
class Watchers:
    """Several watchers as one."""

    each: tuple[Watcher, ...]

    def ready(self, place: int, facts: WorkerFacts) -> None:
        for watcher in self.each:
            watcher.ready(place, facts)

    def moved(self, place: int, progress: Progress) -> None:
        for watcher in self.each:
            watcher.moved(place, progress)

    def finished(self, outcome: Outcome) -> None:
        for watcher in self.each:
            watcher.finished(outcome)

    def lost(self, loss: Loss, again: Sequence[str]) -> None:
        for watcher in self.each:
            watcher.lost(loss, again)

    def warn(self, text: str) -> None:
        for watcher in self.each:
            watcher.warn(text)
