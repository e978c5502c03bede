"""What a driver and its workers say to each other: plain values, so that they can be sent to where a worker runs.

Light on purpose: a driver that has its workers elsewhere needs no model library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.documents import DocumentRef
from pipeline.outcome import Outcome
from pipeline.parts import Part


@dataclass(frozen=True)
class WorkerSpec:
    """Everything a worker is built from: plain values, so that it can be sent to where the worker runs."""

    run: str
    run_id: str
    spec_fingerprint: str
    model_source: str
    model_fingerprint: str
    device: str
    dtype: str
    threads: int
    window: int
    lanes: int
    pooling: str
    max_chars: int
    language: str | None
    tasks: tuple[Mapping[str, Any], ...]
    checkpoint_tokens: int
    checkpoint_seconds: float
    checkpoint_keep: int
    doc_timeout: float
    page_timeout: float = 60.0
    sections: str = "headings"
    faults: str = ""
    store: str = ""
    """The address that the run directory is kept at, if it is a copy."""
    sparing: bool = False
    """Documents are not read where no task needs the model. Not for runs that are kept: coverage would be untrue."""
    policy: Literal["carry", "section", "reprime", "auto"] = "carry"
    profile: str | None = None
    profile_sha256: str | None = None


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker says of itself once it is ready."""

    pid: int
    numeric: str
    pooling: str
    dimensions: int
    generation: str
    dtype: str
    load_seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Assignment:
    """A document to read."""

    ref: DocumentRef
    epoch: int
    attempt: int


@dataclass(frozen=True)
class LaneReport:
    """How far a document has been read, and from which token on in this try."""

    doc_id: str
    tokens: int
    text_bytes: int
    resumed_from: int = 0


@dataclass(frozen=True)
class Grown:
    """A document that is followed has a checkpoint behind `tokens`; `parts` are all its rows until there."""

    doc_id: str
    epoch: int
    attempt: int
    parts: tuple[Part, ...]
    tokens: int


@dataclass(frozen=True)
class Progress:
    """What happened in one call of a worker.

    `warnings` are lines for people; `fault` says what is wrong with the machine, and is empty if nothing is.
    """

    outcomes: tuple[Outcome, ...]
    lanes: tuple[LaneReport, ...]
    tokens_fed: int
    checkpoints: int
    peak_memory_bytes: int
    warnings: tuple[str, ...] = ()
    fault: str = ""
    grown: tuple[Grown, ...] = ()
