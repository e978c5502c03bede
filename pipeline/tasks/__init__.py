"""What is made of a document while it is read, one module a task type.

A task is a frozen dataclass: its fields are its options, and what it has to remember of a document between two
segments is a value that it is handed and hands back, so that a checkpoint can hold it. `visit` and `finish` are
generators: they yield what they want done (rows kept, a state kept, tokens fed to a fork of the state) and receive
the result. A task module has `TYPE`, the name used in job files, and `make(options) -> Task`. A contract test runs
over every module of this folder.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.documents import DocumentFacts, DocumentRef
from pipeline.folder import entries
from pipeline.segments import Segment
from pipeline.units import Found, Want
from pipeline.values import Value

if TYPE_CHECKING:
    from pipeline.claims.writing import Written
    from rwkv_runtime.engine import Fed, Feed
    from rwkv_runtime.state import State

Memory: TypeAlias = Mapping[str, Value]
Options: TypeAlias = Mapping[str, Any]
Queries: TypeAlias = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Emit:
    """Rows of one table, in the order in which they stand in the output."""

    table: str
    rows: pa.Table


@dataclass(frozen=True)
class Keep:
    """A state to be kept beside the tables, under `<doc_id>.<name>.arrow`."""

    name: str
    state: State


@dataclass(frozen=True)
class Write:
    """A summary to be written about some sentences, in at most so many claims."""

    sentences: tuple[str, ...]
    most: int


Request: TypeAlias = "Emit | Keep | Feed | Write"
Answer: TypeAlias = "Fed | Written"
"""What comes back of a Feed or of a Write."""

Steps: TypeAlias = "Generator[Request, Answer | None, Memory]"


@dataclass(frozen=True)
class Moment:
    """What a task sees when a segment has been read.

    `vectors` [n, dimensions] belong to the n sentences of the segment, unit length; None if no task asked.
    `state` is the document's state behind the segment. `memory` is what the task handed back last. `queries` are the
    vectors [dimensions] of the texts that any task asked for. `surprise` [n] are the sentences' mean nats a token, NaN
    for one that nothing stands before; None if no task asked. `units` are those that the segment has
    closed, by what was wanted.
    """

    ref: DocumentRef
    facts: DocumentFacts
    segment: Segment
    vectors: NDArray[np.float32] | None
    state: State
    memory: Memory
    queries: Queries = field(default_factory=dict)
    surprise: NDArray[np.float32] | None = None
    units: Found = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """What a task sees when the whole document has been read.

    `boundary` is the state behind the last segment that text appended to the document could not change. `units` are
    those that were still open, by what was wanted.
    """

    ref: DocumentRef
    facts: DocumentFacts
    chars: int
    tokens: int
    state: State
    boundary: State
    memory: Memory
    queries: Queries = field(default_factory=dict)
    units: Found = field(default_factory=dict)


class Task(Protocol):
    """One thing to make of every document."""

    @property
    def name(self) -> str: ...

    @property
    def wants_vectors(self) -> bool: ...

    def visit(self, moment: Moment) -> Steps: ...

    def finish(self, ending: Ending) -> Steps: ...


@runtime_checkable
class Asking(Protocol):
    """A task that compares sentences with texts of its own, whose vectors it finds in every moment."""

    @property
    def queries(self) -> tuple[str, ...]: ...


@runtime_checkable
class Continued(Protocol):
    """A task that may want documents to be gone on with once they have grown."""

    @property
    def boundary(self) -> bool: ...


def wants_boundary(tasks: Sequence[Task]) -> bool:
    """Whether any of the tasks wants the place kept at which a longer document is read on."""
    return any(task.boundary for task in tasks if isinstance(task, Continued))


@runtime_checkable
class Scoring(Protocol):
    """A task that may want to know how surprising each sentence is."""

    @property
    def wants_surprise(self) -> bool: ...


def wants_surprise(tasks: Sequence[Task]) -> bool:
    """Whether any of the tasks wants the sentences' surprise."""
    return any(task.wants_surprise for task in tasks if isinstance(task, Scoring))


@runtime_checkable
class Measuring(Protocol):
    """A task that wants vectors of other units than sentences, or read in another way than off the stream."""

    @property
    def wants(self) -> tuple[Want, ...]: ...


def wants_of(tasks: Sequence[Task]) -> tuple[Want, ...]:
    """The kinds of vectors that any of the tasks wants beside those of the sentences on the stream, each once."""
    return tuple(dict.fromkeys(want for task in tasks if isinstance(task, Measuring) for want in task.wants))


@runtime_checkable
class ByWords(Protocol):
    """A task that may need nothing of a model but its tokenizer: no vector, no state, no surprise."""

    @property
    def by_words(self) -> bool: ...


def need_no_model(tasks: Sequence[Task]) -> bool:
    """Whether the rows of all tasks would be the same if the model had read nothing."""
    return all(isinstance(task, ByWords) and task.by_words for task in tasks)


def queries_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The texts that any of the tasks wants to have as vectors, each once."""
    return tuple(dict.fromkeys(text for task in tasks if isinstance(task, Asking) for text in task.queries))


def make_tasks(options: list[Options]) -> tuple[Task, ...]:
    """The tasks that a job asks for. Each mapping has `type` and the options of that type."""
    makers = {module.TYPE: module.make for module in entries(__name__).values()}
    return tuple(makers[entry["type"]](entry) for entry in options)
