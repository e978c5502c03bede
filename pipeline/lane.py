"""One document in a worker's hands: carries out what its reader asks for, saves it, and hands over its files.

Knows nothing of other documents, of batching, or of Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pyarrow as pa

from pipeline.checkpoints import Checkpoint, CheckpointFolder, Identity, to_bytes
from pipeline.claims.writing import Written
from pipeline.documents import Document
from pipeline.errors import DocumentError, OptionError
from pipeline.outcome import Outcome
from pipeline.parts import Attempt, Part, PartWriter, standing_name
from pipeline.policy import Context
from pipeline.reading import Boundary, OpenSpan, Reader, Reading, SavePoint, Standing
from pipeline.surprise import OpenSurprise
from pipeline.tasks import Answer, Emit, Keep, Write
from pipeline.units import Open
from pipeline.values import Value
from rwkv_runtime.engine import Fed, Feed
from rwkv_runtime.state import State

FLUSH_BYTES = 8 << 20
"""Rows beyond this many bytes go into a part at the next save point instead of into the checkpoint."""


@dataclass(frozen=True)
class SavePolicy:
    """Save a reading after so many tokens or seconds, whichever comes first."""

    tokens: int
    seconds: float


def _cannot_write(asked: Write) -> Written:
    """Without a model that writes, no task may ask for it."""
    raise OptionError(f"nothing here can write about {len(asked.sentences)} sentences; use mode: extractive")


@dataclass(frozen=True)
class LaneTools:
    """What every lane of a worker shares."""

    parts: PartWriter
    checkpoints: CheckpointFolder
    policy: SavePolicy
    state_from_bytes: Callable[[bytes], State]
    doc_timeout: float
    clock: Callable[[], float] = time.monotonic
    write: Callable[[Write], Written] = _cannot_write


@dataclass
class Lane:
    """Moves one reading from save point to save point. Owns its pending rows and its parts."""

    tools: LaneTools
    attempt: Attempt
    identity: Identity
    document: Document
    reader: Reader
    resumed: Checkpoint | None = None
    _steps: Reading = field(init=False)
    _pending: dict[str, list[pa.Table]] = field(init=False, default_factory=dict)
    _pending_bytes: int = field(init=False, default=0)
    _parts: list[Part] = field(init=False, default_factory=list)
    _coverage: float = field(init=False, default=0.0)
    _saved_tokens: int = field(init=False, default=0)
    _saved_at: float = field(init=False, default=0.0)
    _started_at: float = field(init=False, default=0.0)
    _waits: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._steps = self.reader.steps()
        self._started_at = self._saved_at = self.tools.clock()
        if self.resumed is not None:
            self._pending = {name: [rows] for name, rows in self.resumed.pending.items()}
            self._pending_bytes = sum(rows.nbytes for rows in self.resumed.pending.values())
            self._parts = list(self.resumed.parts)
            self._saved_tokens = self.resumed.tokens

    @property
    def tokens(self) -> int:
        """Tokens of the document that have been read, those before a resumption included."""
        return self.reader.tokens

    @property
    def tokens_fed(self) -> int:
        """Tokens that this try has read."""
        return self.tokens - (self.resumed.tokens if self.resumed else 0)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the document text that have been read, those before a resumption included."""
        return self.reader.text_bytes

    def proceed(self, fed: Fed | None) -> Feed | SavePoint | None:
        """Go on until something must be computed, the reading may stop, or (None) it is over.

        Raises DocumentError for what is wrong with the document, OSError for what is wrong with the disk.
        """
        follows = self.document.ref.follows
        if not follows and self.tools.clock() - self._started_at > self.tools.doc_timeout:
            raise DocumentError(
                "read",
                "timeout",
                f"not read within {self.tools.doc_timeout:g} s; raise on_error.doc_timeout and run again to go on",
                retryable=True,
            )
        answer: Answer | None = fed
        while True:
            try:
                step = self._steps.send(answer) if answer is not None else next(self._steps)
            except StopIteration:
                return None
            answer = None
            if isinstance(step, (Feed, SavePoint)):
                self._waits = isinstance(step, SavePoint) and step.waits
                return step
            if isinstance(step, Write):
                answer = self.tools.write(step)
            else:
                self._carry_out(step)

    @property
    def waits(self) -> bool:
        """Whether there is nothing more to read for now, as where a document that is followed ends."""
        return self._waits

    @property
    def parts(self) -> tuple[Part, ...]:
        """The rows that have left memory."""
        return tuple(self._parts)

    def due(self) -> bool:
        """Whether the policy asks for a checkpoint at this save point."""
        policy = self.tools.policy
        return (
            self.tokens - self._saved_tokens >= policy.tokens
            or self.tools.clock() - self._saved_at >= policy.seconds
            or self._pending_bytes >= FLUSH_BYTES
        )

    def save(self) -> bool:
        """Write a checkpoint of the reading as it stands, at a save point, unless it is there. Raises OSError.

        Of a document that is followed all rows leave memory: there is somebody who waits for them.
        """
        if self.tokens == self._saved_tokens:
            return False
        if self._pending_bytes >= FLUSH_BYTES or self.document.ref.follows:
            self._flush()
        # Kept joined: the many small tables of single windows take several times the memory of their rows.
        pending = {name: pa.concat_tables(rows).combine_chunks() for name, rows in self._pending.items()}
        self._pending = {name: [rows] for name, rows in pending.items()}
        standing = self.reader.standing()
        checkpoint = Checkpoint(
            identity=self.identity,
            tokens=standing.tokens,
            state=standing.state.to_bytes(),
            boundary=None if standing.boundary is standing.state else standing.boundary.to_bytes(),
            memory=memory_of(standing),
            pending=pending,
            parts=tuple(self._parts),
        )
        self.tools.checkpoints.save(checkpoint, self.attempt)
        self._saved_tokens, self._saved_at = self.tokens, self.tools.clock()
        return True

    def finished(self) -> Outcome:
        """Put the last rows into parts and hand everything over. Raises OSError."""
        self._flush()
        return Outcome(
            self.attempt.doc_id,
            self.attempt.epoch,
            self.attempt.attempt,
            status="ok",
            source_sha256=self.document.facts.source_sha256,
            parts=tuple(self._parts),
            tokens=self.tokens,
            tokens_fed=self.tokens_fed,
            coverage=self._coverage,
        )

    def _carry_out(self, step: Emit | Keep | Boundary) -> None:
        if isinstance(step, Boundary):
            self._keep_standing(step.standing)
            return
        if isinstance(step, Keep):
            name = f"{self.attempt.doc_id}.{step.name}.arrow"
            self._parts.append(self.tools.parts.state(self.attempt, step.state.to_bytes(), name))
            return
        if step.table == "documents":
            self._coverage = step.rows.column("coverage")[0].as_py()
        self._pending.setdefault(step.table, []).append(step.rows)
        self._pending_bytes += step.rows.nbytes

    def _keep_standing(self, standing: Standing) -> None:
        """Keep where a grown document is read on. The parts in front of it are those of the rows until there."""
        self._flush()
        # No run, job or part is named: those are the run directory's, and the bytes are the same in every one.
        identity = replace(self.identity, run_id="", spec="")
        state, memory = standing.state.to_bytes(), memory_of(standing)
        data = to_bytes(Checkpoint(identity, standing.tokens, state, None, memory, {}, ()))
        self._parts.append(self.tools.parts.state(self.attempt, data, standing_name(self.attempt.doc_id)))

    def _flush(self) -> None:
        for name in sorted(self._pending):
            rows = pa.concat_tables(self._pending[name])
            self._parts.append(self.tools.parts.rows(self.attempt, rows, name, len(self._parts)))
        self._pending = {}
        self._pending_bytes = 0


def memory_of(standing: Standing) -> dict[str, Value]:
    """What a checkpoint remembers besides states and rows."""
    surprise = standing.open_surprise
    scored: dict[str, Value] = {} if surprise == OpenSurprise() else {"surprise": surprise.as_values()}
    units = standing.open_units
    opened: dict[str, Value] = {"units": units.as_values()} if units.units or units.closed else {}
    if standing.fed != standing.tokens:
        opened["fed"] = standing.fed
    if standing.context != Context():
        opened["context"] = standing.context.as_values()
    return (
        scored
        | opened
        | {
            "segmenter": standing.segmenter,
            "span_sums": standing.open_span.sums,
            "span_tokens": standing.open_span.tokens,
            "tasks": standing.memories,
            "text_bytes": standing.text_bytes,
        }
    )


def standing_of(checkpoint: Checkpoint, state_from_bytes: Callable[[bytes], State]) -> Standing:
    """Where the reading stood when the checkpoint was written. Raises StateError."""
    memory = cast("dict[str, dict[str, Value]]", checkpoint.memory)
    state = state_from_bytes(checkpoint.state)
    boundary = state if checkpoint.boundary is None else state_from_bytes(checkpoint.boundary)
    span = OpenSpan(
        cast("np.ndarray[tuple[int], np.dtype[np.float32]]", checkpoint.memory["span_sums"]),
        cast(int, checkpoint.memory["span_tokens"]),
    )
    return Standing(
        state=state,
        boundary=boundary,
        segmenter=memory["segmenter"],
        open_span=span,
        memories=cast("dict[str, dict[str, Value]]", memory["tasks"]),
        tokens=checkpoint.tokens,
        text_bytes=cast(int, checkpoint.memory["text_bytes"]),
        open_surprise=OpenSurprise.of(memory.get("surprise", {})),
        open_units=Open.of(memory.get("units", {}), state_from_bytes),
        context=Context.of(memory.get("context", {})),
        fed=cast(int, memory.get("fed", checkpoint.tokens)),
    )
