"""Document formats, one module each.

A format module has `SUFFIXES` (lower-case, with the dot) and `open_document(ref) -> Document`, which raises
DocumentError for a file that it cannot read. A contract test runs over every module of this folder.
"""

from __future__ import annotations

from pathlib import PurePath

from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.folder import entries


def reader_for(path: str) -> str | None:
    """Name of the format that reads files with this suffix, or None."""
    suffix = PurePath(path).suffix.lower()
    return next((name for name, module in entries(__name__).items() if suffix in module.SUFFIXES), None)


def known_suffixes() -> list[str]:
    """Every suffix that some format reads, sorted."""
    return sorted(suffix for module in entries(__name__).values() for suffix in module.SUFFIXES)


def open_document(ref: DocumentRef) -> Document:
    """Open a document with the reader that its reference names. Raises DocumentError."""
    module = entries(__name__).get(ref.reader)
    if module is None:
        raise DocumentError(
            "open", "unsupported_type", f"no reader for this file; readable are {', '.join(known_suffixes())}"
        )
    document: Document = module.open_document(ref)
    return document
