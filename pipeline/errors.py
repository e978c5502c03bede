"""What can go wrong with one document. Every message is one line that says what to do.

PipelineError
├── DocumentError        this document cannot be read; the others can
├── OptionError          an option of a task does not fit the model
├── CheckpointError      a checkpoint file is damaged or belongs to something else
├── SinkError            where an export goes does not take it
└── MissingExtraError    an optional package is needed; the message gives the install line
"""

from __future__ import annotations

from collections.abc import Mapping


class PipelineError(Exception):
    """Root of every error that the pipeline raises on purpose."""


class DocumentError(PipelineError):
    """One document cannot be read. Becomes its row in `failures`; the job goes on.

    `stage` is one of open, decode, parse, split, read, generate, write; `error_type` a short stable word;
    `byte_offset` counts into the file. `retryable` says whether the same bytes may succeed another time. `metadata` is
    what is known of the document all the same.
    """

    def __init__(
        self,
        stage: str,
        error_type: str,
        message: str,
        *,
        page: int | None = None,
        byte_offset: int | None = None,
        retryable: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.error_type = error_type
        self.message = message
        self.page = page
        self.byte_offset = byte_offset
        self.retryable = retryable
        self.metadata = dict(metadata or {})


class OptionError(PipelineError):
    """An option of a task does not fit the model that is to carry it out."""


class CheckpointError(PipelineError):
    """A checkpoint is damaged, or it belongs to another run, document, model or arithmetic."""


class SinkError(PipelineError):
    """Where an export goes does not take it."""


class MissingExtraError(PipelineError):
    """An optional package is needed and not installed."""
