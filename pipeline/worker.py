"""A worker: one loaded model and the documents it is reading. The same in this process and in a Ray actor.

Knows nothing of plans, ledgers or command lines: it is told which documents to read and says what came of them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import rwkv_runtime
from pipeline import vectors
from pipeline.checkpoints import CheckpointFolder, Identity
from pipeline.claims.capability import capability_of
from pipeline.claims.writing import Abstractor, ModelWriter, abstractor, grammar_of
from pipeline.documents import Document
from pipeline.durable import Faults
from pipeline.errors import OptionError
from pipeline.formats import is_parsed, open_document
from pipeline.growing import POLL_SECONDS, GrowingText
from pipeline.lane import Lane, LaneTools, SavePolicy, standing_of
from pipeline.opening import Opener
from pipeline.outcome import Outcome, failed
from pipeline.parts import Attempt, PartWriter
from pipeline.reading import Reader, Standing
from pipeline.sandbox import Limits
from pipeline.segments import SplitOptions
from pipeline.store_disk import disk_of
from pipeline.tasks import Options, Task, make_tasks, need_no_model, queries_of, wants_of
from pipeline.text_store import TextStore
from pipeline.units import SPAN
from pipeline.unread import Unread
from pipeline.work import Assignment, Grown, LaneReport, Progress, WorkerFacts, WorkerSpec
from rwkv_runtime import profiles, prompts
from rwkv_runtime.allocator import release_freed_memory
from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.errors import StateError
from rwkv_runtime.memory import peak_memory_bytes
from rwkv_runtime.model import Model
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State


class DiskFaultError(Exception):
    """The run directory cannot be written: no document is to blame."""


@dataclass
class _Call:
    """What one call of the worker has done so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    grown: list[Grown] = field(default_factory=list)
    tokens_fed: int = 0
    checkpoints: int = 0


class Worker:
    """Reads documents, at most `spec.lanes` at a time. Raises RwkvError if the model cannot be loaded."""

    def __init__(self, spec: WorkerSpec) -> None:
        started = time.monotonic()
        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._model = rwkv_runtime.load(spec.model_source, device=spec.device, dtype=spec.dtype, shared=True)
        if self._model.fingerprint != spec.model_fingerprint:
            raise rwkv_runtime.errors.ModelFileError(
                f"{spec.model_source}: not the weights that this run was started with "
                f"({self._model.fingerprint[:12]}, expected {spec.model_fingerprint[:12]}); put those back"
            )
        self._tasks: tuple[Task, ...] = make_tasks(list(spec.tasks))
        engine = Unread if spec.sparing and need_no_model(self._tasks) else Engine
        self._engine = engine(self._model, window=spec.window, lanes=spec.lanes, pooling=_pooling(spec, self._model))
        self._numeric = self._engine.numeric_fingerprint()
        refuse_more_dimensions(spec.tasks, self._engine.pooler.dimensions)
        ways = {vectors.ISOLATED, *(want.pooling for want in wants_of(self._tasks) if want.pooling != SPAN)}
        self._alone = vectors.alone(self._engine, ways=sorted(ways))
        texts = queries_of(self._tasks)
        self._queries = dict(zip(texts, vectors.isolated(self._engine, texts), strict=True))
        faults = Faults.parse(spec.faults)
        run = Path(spec.run)
        self._poisons, disk = faults.poisons, disk_of(run, spec.store, faults)
        self._store = TextStore(run / "text", disk, Limits(silent_seconds=spec.page_timeout))
        self._opener = self._new_opener()
        self._tools = LaneTools(
            parts=PartWriter(run, disk),
            checkpoints=CheckpointFolder(run, disk, spec.checkpoint_keep),
            policy=SavePolicy(spec.checkpoint_tokens, spec.checkpoint_seconds),
            state_from_bytes=lambda data: State.from_bytes(data, self._model),
            doc_timeout=spec.doc_timeout,
        )
        if writer := _writer(spec.tasks, self._engine):
            self._tools = replace(self._tools, write=lambda asked: writer.summary(asked.sentences, asked.most))
        self._lanes: list[Lane] = []
        self._load_seconds = time.monotonic() - started

    def facts(self) -> WorkerFacts:
        """What this worker computes with."""
        pooler = self._engine.pooler
        versions = {"python": sys.version.split()[0], "torch": torch.__version__}
        return WorkerFacts(
            os.getpid(),
            self._numeric,
            pooler.name,
            pooler.dimensions,
            self._model.config.generation,
            self._model.dtype,
            self._load_seconds,
            versions,
        )

    def advance(self, new: Sequence[Assignment], seconds: float) -> Progress:
        """Take on new documents and read for about so many seconds, or until none is left.

        Raises MemoryError if there is no memory left; the worker is of no use then.
        """
        call = _Call()
        until = time.monotonic() + seconds
        try:
            for assignment in new:
                self._open(assignment, call)
            while self._lanes or self._opener.waiting:
                self._take_opened(call, until)
                self._round(call)
                if time.monotonic() >= until:
                    break
                if self._lanes and all(lane.waits for lane in self._lanes):
                    time.sleep(max(0.0, min(POLL_SECONDS, until - time.monotonic())))
        except DiskFaultError as fault:
            return self._progress(call, str(fault))
        return self._progress(call)

    def drain(self) -> Progress:
        """Save every open document where it stands and let go of it."""
        call = _Call()
        self._opener.stop()
        self._opener = self._new_opener()
        try:
            for lane in self._lanes:
                self._save(lane, call)
        except DiskFaultError as fault:
            return self._progress(call, str(fault))
        finally:
            self._lanes = []
        return self._progress(call)

    def close(self) -> None:
        """Let go of everything as it stands: what is still being fetched or parsed is ended before this returns."""
        self._opener.stop()
        self._lanes = []

    def _progress(self, call: _Call, fault: str = "") -> Progress:
        return Progress(
            tuple(call.outcomes),
            (*map(_report, self._lanes), *(LaneReport(one.ref.doc_id, 0, 0) for one in self._opener.waiting)),
            call.tokens_fed,
            call.checkpoints,
            peak_memory_bytes(),
            tuple(call.warnings),
            fault,
            tuple(call.grown),
        )

    def _new_opener(self) -> Opener:
        opener = Opener(lambda assignment: open_document(assignment.ref, store))
        store = replace(self._store, stopped=opener.stopped)
        return opener

    def _open(self, assignment: Assignment, call: _Call) -> None:
        """Open a document, beside the reading if it has to be parsed."""
        try:
            if is_parsed(assignment.ref):
                self._opener.begin(assignment)
                return
            document = open_document(assignment.ref, self._store)
        except Exception as error:
            self._not_opened(assignment, error, call)
        else:
            self._begin(assignment, document, call)

    def _take_opened(self, call: _Call, until: float) -> None:
        """Read on with what has been parsed; wait for it if there is nothing else to do."""
        for opened in self._opener.ready(0.0 if self._lanes else until - time.monotonic()):
            if isinstance(opened.result, Exception):
                self._not_opened(opened.assignment, opened.result, call)
            else:
                self._begin(opened.assignment, opened.result, call)

    def _not_opened(self, assignment: Assignment, error: Exception, call: _Call) -> None:
        if isinstance(error, OSError):  # what is wrong with a document is a DocumentError
            raise _disk_fault(error) from error
        self._fail(assignment, error, call)

    def _begin(self, assignment: Assignment, document: Document, call: _Call) -> None:
        try:
            self._lanes.append(self._lane(assignment, document, call))
        except Exception as error:  # whatever it is, one document must not stop the others
            self._not_opened(assignment, error, call)

    def _lane(self, assignment: Assignment, document: Document, call: _Call) -> Lane:
        spec, ref = self._spec, assignment.ref
        attempt = Attempt(ref.doc_id, assignment.epoch, assignment.attempt)
        identity = Identity(
            spec.run_id,
            ref.doc_id,
            document.facts.text_id or document.facts.source_sha256,
            spec.model_fingerprint,
            spec.spec_fingerprint,
            self._numeric,
        )
        checkpoint, refused = self._tools.checkpoints.newest(identity)
        call.warnings.extend(f"{ref.uri}: checkpoint passed over: {reason}" for reason in refused)
        start: State | Standing = self._model.initial_state()
        try:
            start = standing_of(checkpoint, self._tools.state_from_bytes) if checkpoint else start
        except (StateError, KeyError, TypeError, ValueError) as error:
            call.warnings.append(f"{ref.uri}: checkpoint passed over: {error}")
            checkpoint = None
        if checkpoint and ref.follows:  # a crash may have come before its rows were committed
            call.grown.append(Grown(ref.doc_id, attempt.epoch, attempt.attempt, checkpoint.parts, checkpoint.tokens))
        reader = Reader(
            document,
            self._tasks,
            self._model.tokenizer,
            self._engine.pooler,
            SplitOptions(spec.window, spec.max_chars, spec.language, spec.sections),
            start,
            self._queries,
            self._alone,
            "carry" if isinstance(self._engine, Unread) else spec.policy,
        )
        return Lane(self._tools, attempt, identity, document, reader, checkpoint)

    def _round(self, call: _Call) -> None:
        """Take every open document from its save point to the next, computing what they ask for together."""
        waiting = list(self._proceed([(lane, None) for lane in self._lanes], call))
        while waiting:
            waiting = list(self._proceed(list(self._computed(waiting, call)), call))

    def _computed(self, waiting: Sequence[tuple[Lane, Feed]], call: _Call) -> Iterator[tuple[Lane, Fed]]:
        """What the lanes asked for. A lane whose request cannot be computed fails; the others get theirs."""
        try:
            yield from zip([lane for lane, _ in waiting], self._engine.feed([feed for _, feed in waiting]), strict=True)
            call.tokens_fed += sum(len(feed.tokens) for _, feed in waiting)
        except Exception as error:
            if len(waiting) == 1:
                self._drop(waiting[0][0], error, call)
                return
            for alone in waiting:
                yield from self._computed([alone], call)

    def _drop(self, lane: Lane, error: Exception, call: _Call) -> None:
        self._lanes.remove(lane)
        assignment = Assignment(lane.document.ref, lane.attempt.epoch, lane.attempt.attempt)
        self._fail(assignment, error, call, lane.tokens_fed)

    def _proceed(self, lanes: Sequence[tuple[Lane, Fed | None]], call: _Call) -> Iterator[tuple[Lane, Feed]]:
        """The lanes that have something to compute; those at a save point or at their end are seen to."""
        for lane, fed in lanes:
            try:
                if lane.tokens:
                    self._poisons.act(lane.document.ref.uri)
                step = lane.proceed(fed)
            except OSError as error:
                raise _disk_fault(error) from error
            except Exception as error:  # whatever it is, one document must not stop the others
                self._drop(lane, error, call)
                continue
            if isinstance(step, Feed):
                yield lane, step
            elif step is None:
                self._finish(lane, call)
            elif lane.due():
                self._save(lane, call)

    def _save(self, lane: Lane, call: _Call) -> None:
        try:
            saved = lane.save()
        except OSError as error:
            raise _disk_fault(error) from error
        if not saved:
            return
        call.checkpoints += 1
        release_freed_memory()
        mine = lane.attempt
        if lane.document.ref.follows:
            call.grown.append(Grown(mine.doc_id, mine.epoch, mine.attempt, lane.parts, lane.tokens))

    def _finish(self, lane: Lane, call: _Call) -> None:
        self._lanes.remove(lane)
        if isinstance(lane.document, GrowingText) and lane.document.why_over:
            call.warnings.append(f"{lane.document.ref.uri} {lane.document.why_over}")
        try:
            call.outcomes.append(lane.finished())
        except OSError as error:
            raise _disk_fault(error) from error

    def _fail(self, assignment: Assignment, error: Exception, call: _Call, tokens_fed: int = 0) -> None:
        """Rows that say what is wrong with a document. Raises MemoryError if that is what was raised.

        Whoever ran out of memory is not known then, and what is left of this process may not be enough to go on.
        """
        if is_lack_of_memory(error):
            raise MemoryError(str(error)) from error
        attempt = Attempt(assignment.ref.doc_id, assignment.epoch, assignment.attempt)
        try:
            call.outcomes.append(failed(assignment.ref, attempt, error, self._tools.parts, tokens_fed))
        except OSError as fault:
            raise _disk_fault(fault) from fault


def _pooling(spec: WorkerSpec, model: Model) -> str | SpanPooler:
    """How tokens become vectors. Raises RwkvError for a profile that does not fit."""
    if spec.profile is None:
        return spec.pooling
    return profiles.read(Path(spec.profile), spec.profile_sha256).pooler(model, spec.pooling)


def _writer(tasks: Sequence[Options], engine: Engine) -> Abstractor | None:
    """What writes summaries, if a task wants any. Raises OptionError if this model cannot, RwkvError for a template."""
    task = next((task for task in tasks if task.get("mode") == "abstractive"), None)
    if task is None:
        return None
    found = abstractor(engine, task["template"], task["prompt"])
    grammar_of(1, 1)  # says now if what it needs is not installed
    can = capability_of(ModelWriter(engine, prompts.load(task["template"])))
    if not can.can_write:
        raise OptionError(f"tasks.{task['name']}: this model cannot write summaries ({can}); write mode: extractive")
    return found


def refuse_more_dimensions(tasks: Sequence[Options], dimensions: int) -> None:
    """Raise OptionError if a task wants more dimensions than vectors have."""
    for task in tasks:
        wanted = task.get("dims")
        if wanted is not None and wanted > dimensions:
            raise OptionError(
                f"tasks.{task['name']}.dims is {wanted}, but this model's vectors have {dimensions} dimensions; "
                "lower it or leave it out"
            )


def _report(lane: Lane) -> LaneReport:
    return LaneReport(lane.attempt.doc_id, lane.tokens, lane.text_bytes, lane.tokens - lane.tokens_fed)


def _disk_fault(error: OSError) -> DiskFaultError:
    return DiskFaultError(f"cannot write {error.filename or 'to the run directory'}: {error.strerror or error}")


def is_lack_of_memory(error: Exception) -> bool:
    """Whether there was no memory for something, be it Python, Arrow or torch that said so."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
