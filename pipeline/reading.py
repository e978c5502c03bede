"""Reading one document, as a straight line from the first segment not yet read to the last.

The generator yields what it needs computed or kept and receives the result. It never touches a device, a file
of the run, or another document, so it can be stopped at any save point and taken up elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TypeAlias, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import tables
from pipeline.alone import Alone, Way
from pipeline.documents import Document
from pipeline.errors import DocumentError
from pipeline.policy import Context, Policed, Policing, Policy
from pipeline.segments import NothingYet, Segment, Segmenter, SplitOptions
from pipeline.surprise import OpenSurprise, followers, measured
from pipeline.tasks import (
    Answer,
    Emit,
    Ending,
    Memory,
    Moment,
    Queries,
    Request,
    Steps,
    Task,
    wants_boundary,
    wants_of,
    wants_surprise,
)
from pipeline.units import SPAN, Open, Sums, ended, followed
from pipeline.values import Value
from rwkv_runtime.engine import Fed, Feed
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State
from rwkv_runtime.tokenizers import Tokenizer


@dataclass(frozen=True)
class Standing:
    """Everything that reading on needs, apart from the document itself: what a checkpoint holds.

    `boundary` is the state behind the last settled segment; `open_span` the features of the tokens of the
    sentence that is open here, `open_surprise` their nats, `open_units` the units that are, `context` what
    the policy remembers, `fed` how many tokens the model has read: those of the text, and again for what was asked.
    """

    state: State
    boundary: State
    segmenter: Mapping[str, Value]
    open_span: OpenSpan
    memories: Mapping[str, Memory]
    tokens: int = 0
    text_bytes: int = 0
    open_surprise: OpenSurprise = field(default_factory=OpenSurprise)
    open_units: Open = field(default_factory=Open)
    context: Context = field(default_factory=Context)
    fed: int = 0


@dataclass(frozen=True)
class OpenSpan:
    """Sums of token features [F] over the tokens of a sentence that are read already."""

    sums: NDArray[np.float32]
    tokens: int = 0


@dataclass(frozen=True)
class SavePoint:
    """Reading may be stopped here, behind that many tokens; the reader's `standing` says where it stands.

    `waits` says that nothing more is there to be read yet.
    """

    tokens: int
    waits: bool = False


@dataclass(frozen=True)
class Boundary:
    """Text appended to the document can change nothing in front of here: a longer one may be read on from `standing`.

    All rows of what is in front of it have been yielded, none of what follows.
    """

    standing: Standing


_Result = TypeVar("_Result")

Step: TypeAlias = "Request | SavePoint | Boundary"
Reading: TypeAlias = "Generator[Step, Answer | None, None]"


class Reader:
    """One document on its way through the model. Owns where the reading stands; `steps` moves it on."""

    def __init__(
        self,
        document: Document,
        tasks: tuple[Task, ...],
        tokenizer: Tokenizer,
        pooler: SpanPooler,
        options: SplitOptions,
        start: State | Standing,
        queries: Queries | None = None,
        alone: Alone | None = None,
        policy: Policy = "carry",
    ) -> None:
        """`alone` reads what a task wants read by itself; by default it begins where this reading begins.

        `policy` begins the state anew from the same place.
        """
        self._document = document
        self._queries = queries or {}
        self._tasks = tasks
        self._pooler = pooler
        if isinstance(start, Standing):
            self._now = start
        else:
            nothing = OpenSpan(np.zeros(pooler.feature_size, np.float32))
            self._now = Standing(start, start, {}, nothing, {})
        self._fed = self._now.fed
        self._keeps_boundary = wants_boundary(tasks)
        self._wants = wants_of(tasks)
        ways = {"isolated": Way("isolated")}
        self._alone = alone or Alone(tokenizer, pooler, options.window, self._now.state, ways)
        self._policing = Policing(policy, self._alone.anchor, tokenizer, options.window)
        self._segmenter = Segmenter(document, tokenizer, options, self._now.segmenter or None)

    @property
    def tokens(self) -> int:
        """Tokens read so far."""
        return self._now.tokens

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the document text read so far."""
        return self._now.text_bytes

    def standing(self) -> Standing:
        """Where the reading stands. Only at a save point: between two, parts of it have moved on already."""
        return replace(self._now, segmenter=self._segmenter.snapshot())

    def steps(self) -> Reading:
        """Yield what must be computed or kept, and where reading may stop. Raises DocumentError."""
        pooled_on_stream = any(want.pooling == SPAN for want in self._wants)
        wants_vectors = pooled_on_stream or any(task.wants_vectors for task in self._tasks)
        scored = wants_surprise(self._tasks)
        while (segment := self._segmenter.next_segment()) is not None:
            if isinstance(segment, NothingYet):
                yield SavePoint(self._now.tokens, waits=True)
                continue
            if self._keeps_boundary and not segment.settled and self._stands_at_boundary():
                yield Boundary(self._now)
            asked = followers(segment) if scored else ()
            now = self._now
            steps = self._policing.read(segment, now.state, now.context, wants_vectors, asked)
            policed = yield from self._needed(steps)
            if not policed.fed.state.is_finite():
                raise DocumentError(
                    "read",
                    "nonfinite_state",
                    f"the state is not finite behind token {segment.token_end:,}; the weights may be damaged",
                )
            if policed.events:
                yield Emit("contexts", event_rows(self._document.ref.doc_id, policed))
            yield from self._visit(segment, policed)
            yield SavePoint(self._now.tokens)
        yield from self._finish()

    def _stands_at_boundary(self) -> bool:
        return self._now.boundary.tokens_seen == self._now.state.tokens_seen and self._now.tokens > 0

    def _visit(self, segment: Segment, policed: Policed) -> Reading:
        fed = policed.fed
        sums, vectors, open_span = None, None, self._now.open_span
        if fed.features is not None:
            sums, open_span = summed(segment, fed.features, open_span)
            vectors = self._pooler.finish(sums.sums, sums.last, sums.counts)
        surprise, open_surprise = None, self._now.open_surprise
        if wants_surprise(self._tasks):
            surprise, open_surprise = measured(segment, fed.surprise, open_surprise)
        steps = followed(self._wants, self._now.open_units, segment.sentences, sums, self._alone)
        units, open_units = yield from self._needed(steps)
        memories: dict[str, Memory] = {}
        ref, facts = self._document.ref, self._document.facts
        for task in self._tasks:
            memory = self._now.memories.get(task.name, {})
            moment = Moment(ref, facts, segment, vectors, fed.state, memory, self._queries, surprise, units)
            memories[task.name] = yield from self._run(task.visit(moment))
        boundary = fed.state if segment.settled else self._now.boundary
        # Which segment is the last settled one is known only when the next one is there, and has moved the segmenter.
        segmenter = self._segmenter.snapshot() if self._keeps_boundary and segment.settled else {}
        read = (segment.token_end, segment.byte_end)
        opened = (open_surprise, open_units)
        self._now = Standing(
            fed.state, boundary, segmenter, open_span, memories, *read, *opened, policed.context, self._fed
        )

    def _needed(self, steps: Generator[Feed, Fed, _Result]) -> Generator[Request, Answer | None, _Result]:
        """Pass on what must be computed; what is asked for always comes."""
        try:
            feed = next(steps)
            while True:
                self._fed += len(feed.tokens)
                feed = steps.send(cast(Fed, (yield feed)))
        except StopIteration as stop:
            return cast("_Result", stop.value)

    def _run(self, steps: Steps, kept: list[str] | None = None) -> Generator[Request, Answer | None, Memory]:
        """Pass a task's requests on; note the names of the states it keeps."""
        answer: Answer | None = None
        while True:
            try:
                request = steps.send(answer) if answer is not None else next(steps)
            except StopIteration as stop:
                return cast(Memory, stop.value)
            if kept is not None and hasattr(request, "name"):
                kept.append(request.name)
            if isinstance(request, Feed):
                self._fed += len(request.tokens)
            answer = yield request

    def _finish(self) -> Reading:
        now, ref, facts = self._now, self._document.ref, self._document.facts
        units = yield from self._needed(ended(self._wants, now.open_units, self._alone))
        kept: list[str] = []
        for task in self._tasks:
            memory = now.memories.get(task.name, {})
            ending = Ending(
                ref, facts, self._segmenter.chars, now.tokens, now.state, now.boundary, memory, self._queries, units
            )
            yield from self._run(task.finish(ending), kept)
        all_bytes = self._segmenter.text_bytes
        yield Emit(
            "documents",
            document_row(
                self._document,
                chars=self._segmenter.chars,
                tokens=now.tokens,
                fed=self._fed,
                coverage=now.text_bytes / all_bytes if all_bytes else 0.0,
                state_path=f"states/{ref.doc_id}.end.arrow" if "end" in kept else None,
            ),
        )


def pooled(
    segment: Segment, features: NDArray[np.float32], open_span: OpenSpan, pooler: SpanPooler
) -> tuple[NDArray[np.float32], OpenSpan]:
    """Vectors [n, dimensions] of the sentences that end in a segment, and the span that stays open behind it."""
    found, rest = summed(segment, features, open_span)
    return pooler.finish(found.sums, found.last, found.counts), rest


def summed(segment: Segment, features: NDArray[np.float32], open_span: OpenSpan) -> tuple[Sums, OpenSpan]:
    """What is pooled of each sentence that ends in a segment, and the span that stays open behind it.

    `features` [T, F] belong to the segment's tokens. Sums are taken per segment and added in the order of the
    segments, so the bits do not depend on where the reading was interrupted.
    """
    ends = [sentence.token_end - segment.token_start for sentence in segment.sentences]
    if not ends:
        sums = open_span.sums + features.sum(axis=0, dtype=np.float32)
        none = np.zeros((0, features.shape[1]), np.float32)
        return Sums(none, none, np.zeros(0, np.int64)), OpenSpan(sums, open_span.tokens + len(features))
    starts = [0, *ends[:-1]]
    sums = np.stack([features[a:b].sum(axis=0, dtype=np.float32) for a, b in zip(starts, ends, strict=True)])
    counts = np.array([b - a for a, b in zip(starts, ends, strict=True)], np.int64)
    sums[0] += open_span.sums
    counts[0] += open_span.tokens
    last = features[[end - 1 for end in ends]]
    rest = features[ends[-1] :]
    return Sums(sums, last, counts), OpenSpan(rest.sum(axis=0, dtype=np.float32), len(rest))


def event_rows(doc_id: str, policed: Policed) -> pa.Table:
    """What a policy has done and measured, as rows of `contexts`."""
    first = policed.context.events - len(policed.events)
    rows = [
        {"id": f"{doc_id}#c{first + place:05d}", "doc_id": doc_id, **asdict(event)}
        for place, event in enumerate(policed.events)
    ]
    return pa.Table.from_pylist(rows, schema=tables.CONTEXTS)


def document_row(
    document: Document, *, chars: int, tokens: int, fed: int, coverage: float, state_path: str | None
) -> pa.Table:
    """The row of a document that was read to its end. `coverage` is the share of its bytes that were read.

    `fed` counts every token that the model has read for it, `tokens` those of its text.
    """
    ref, facts = document.ref, document.facts
    row = {
        "doc_id": ref.doc_id,
        "source_uri": ref.uri,
        "source_sha256": facts.source_sha256,
        "bytes": facts.bytes,
        "encoding": facts.encoding or None,
        "decode_errors": facts.decode_errors,
        "title": facts.title,
        "language": facts.language,
        "pages": facts.pages,
        "chars": chars,
        "tokens": tokens,
        "tokens_read": tokens,
        "tokens_fed": fed,
        "coverage": coverage,
        "status": "ok",
        "state_path": state_path,
        "metadata": list(facts.metadata.items()),
    }
    return pa.Table.from_pylist([row], schema=tables.DOCUMENTS)
