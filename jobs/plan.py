"""What a job would do, document by document, without loading the model or writing anything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from jobs import standard_input
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry, read_manifests
from jobs.prepare import Job, list_inputs, reference, refuse_other_job
from jobs.run_directory import RunDirectory
from jobs.standard_input import STDIN_ID
from pipeline.documents import FOLLOW
from pipeline.durable import Disk
from pipeline.errors import DocumentError

BYTES_PER_TOKEN: Final = 3.4
"""Measured with the shipped tokenizer over English text; other languages and tokenizers need more tokens."""


@dataclass(frozen=True)
class PlannedDocument:
    """One document: `action` is read, resume, follow, skip or fail, and `reason` says why.

    `reason_code` says it in a word: new, retry, standard_input, grows; checkpoint; done, failed; or the type of the
    error.
    """

    doc_id: str
    uri: str
    bytes: int
    tokens_estimate: int
    action: str
    reason: str
    reason_code: str = ""
    pages_estimate: int | None = None


@dataclass(frozen=True)
class Plan:
    """All documents of a job and what is left of them. `tokens_per_second` is known once this run has read some."""

    run: str
    exists: bool
    documents: tuple[PlannedDocument, ...]
    bytes_left: int
    tokens_left_estimate: int
    tokens_per_second: float | None

    @property
    def counts(self) -> dict[str, int]:
        """Documents by action and reason code, such as "fail empty", most first."""
        return dict(Counter(f"{one.action} {one.reason_code}" for one in self.documents).most_common())

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "counts": self.counts}


def plan_job(job: Job) -> Plan:
    """Look at every input of a job. Raises JobError (exit 2, 4, 6)."""
    view, entries = _standing(job)
    checkpoints = _checkpointed_tokens(job, entries) if view else {}
    documents = tuple(_planned(job, entry, view, checkpoints) for entry in entries)
    left = [document for document in documents if document.action in ("read", "resume", "follow")]
    tokens_left = sum(document.tokens_estimate - checkpoints.get(document.doc_id, 0) for document in left)
    return Plan(
        run=str(job.run_path),
        exists=view is not None,
        documents=documents,
        bytes_left=sum(document.bytes for document in left),
        tokens_left_estimate=max(tokens_left, 0),
        tokens_per_second=_rate(view) if view else None,
    )


def _standing(job: Job) -> tuple[LedgerView | None, list[ManifestEntry]]:
    if not RunDirectory.exists(job.run_path) or job.spec.output.mode == "overwrite":
        return None, list_inputs(job)
    directory = RunDirectory.open(job.run_path, Disk())
    refuse_other_job(job, directory)
    view = RunLedger.read(directory.ledger)
    return view, read_manifests(directory.manifests()) or list_inputs(job)


def _planned(job: Job, entry: ManifestEntry, view: LedgerView | None, saved: dict[str, int]) -> PlannedDocument:
    from pipeline.formats import estimate

    found = estimate(reference(entry, job.root))
    tokens = round(found.text_bytes / BYTES_PER_TOKEN)
    action, code, reason = _action(job, entry, view, saved)
    return PlannedDocument(entry.doc_id, entry.uri, entry.size, tokens, action, reason, code, found.pages)


def _action(job: Job, entry: ManifestEntry, view: LedgerView | None, saved: dict[str, int]) -> tuple[str, str, str]:
    """What is done with a document, the reason in a word, and in a line."""
    from pipeline.formats import describe

    finished = view.finished(entry.doc_id) if view else None
    failed = view.quarantined.get(entry.doc_id) if view else None
    if failed is not None and not failed.retryable:
        return "skip", "failed", f"failed already: {failed.reason}"
    if finished is not None and failed is None:
        return "skip", "done", f"{finished.status} already, {finished.tokens:,} tokens"
    if entry.doc_id == STDIN_ID and standard_input.kept(job.texts) is None:
        return "read", "standard_input", "standard input, read when the run begins"
    if FOLLOW in entry.options:
        said = f"from token {saved[entry.doc_id]:,}" if entry.doc_id in saved else "new, read as it grows"
        return "follow", "grows", said
    try:
        what = describe(reference(entry, job.root))
    except DocumentError as error:
        return "fail", error.error_type, error.message
    if entry.doc_id in saved:
        return "resume", "checkpoint", f"from token {saved[entry.doc_id]:,}"
    if failed is not None:
        return "read", "retry", f"failed for a reason that may be gone: {failed.reason}"
    return "read", "new", f"new, {what}"


def _checkpointed_tokens(job: Job, entries: list[ManifestEntry]) -> dict[str, int]:
    found = ((entry.doc_id, newest_checkpoint(job.run_path, entry.doc_id)) for entry in entries)
    return {doc_id: tokens for doc_id, tokens in found if tokens is not None}


def newest_checkpoint(run: Path, doc_id: str) -> int | None:
    """Tokens read at the newest checkpoint of a document by its name alone, or None."""
    return max((int(name.split("-")[0]) for name in _checkpoint_names(run, doc_id)), default=None)


def _checkpoint_names(run: Path, doc_id: str) -> Iterator[str]:
    with suppress(FileNotFoundError):  # a run that goes on removes the folders of finished documents
        yield from (name for name in os.listdir(run / "checkpoints" / doc_id) if name.endswith(".arrow"))


def _rate(view: LedgerView) -> float | None:
    seconds = sum(document.seconds for document in view.done.values())
    tokens = sum(document.tokens for document in view.done.values() if document.seconds)  # copies took no time
    return tokens / seconds if seconds > 0 and tokens else None
