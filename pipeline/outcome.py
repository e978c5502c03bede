"""What came of a document: its files, or the rows that say why there are none. Light: needs no model.

Nothing here is committed; a driver does that.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass

from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
from pipeline.parts import Attempt, Part, PartWriter
from rwkv_runtime.errors import NotFiniteError


@dataclass(frozen=True)
class Outcome:
    """A document that a worker is done with. `parts` are its rows and states; nothing of them is committed yet."""

    doc_id: str
    epoch: int
    attempt: int
    status: str
    source_sha256: str
    parts: tuple[Part, ...]
    tokens: int
    tokens_fed: int
    coverage: float
    error_type: str = ""
    message: str = ""
    retryable: bool = False
    traceback: str = ""


def _where(ref: DocumentRef, error: Exception) -> str:
    """What is said of a bug of ours: what it says itself may quote the document, and stays with the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else ""
    kept = f"the traceback is in quarantine/{ref.doc_id}.txt"
    return f"{type(error).__name__}{place}: a bug of unspool's; please report it, {kept}"


def failed(
    ref: DocumentRef,
    attempt: Attempt,
    error: Exception,
    writer: PartWriter,
    tokens_fed: int = 0,
) -> Outcome:
    """Rows that say why a document could not be read, as parts. Raises OSError."""
    if isinstance(error, NotFiniteError):
        error = DocumentError("read", "nonfinite_state", str(error))
    if not isinstance(error, DocumentError):
        trace = "".join(traceback.format_exception(error))
        error = DocumentError("read", "internal_error", _where(ref, error))
    else:
        trace = ""
    import pyarrow as pa

    from pipeline import tables

    failure = {
        "id": f"{ref.doc_id}#f00000",
        "doc_id": ref.doc_id,
        "source_uri": ref.uri,
        "stage": error.stage,
        "page": error.page,
        "byte_offset": error.byte_offset,
        "error_type": error.error_type,
        "message": error.message,
        "retryable": error.retryable,
    }
    row = {
        "doc_id": ref.doc_id,
        "source_uri": ref.uri,
        "bytes": ref.size,
        "status": "failed",
        "tokens_read": 0,
        "coverage": 0.0,
        "metadata": list({**error.metadata, **json.loads(ref.options.get("given", "{}"))}.items()),
    }
    parts = (
        writer.rows(attempt, pa.Table.from_pylist([failure], tables.FAILURES), "failures", 0),
        writer.rows(attempt, pa.Table.from_pylist([row], tables.DOCUMENTS), "documents", 1),
    )
    return Outcome(
        attempt.doc_id,
        attempt.epoch,
        attempt.attempt,
        status="failed",
        source_sha256="",
        parts=parts,
        tokens=0,
        tokens_fed=tokens_fed,
        coverage=0.0,
        error_type=error.error_type,
        message=error.message,
        retryable=error.retryable,
        traceback=trace,
    )
