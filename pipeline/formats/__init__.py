"""Document formats, one module each.

A format module has `SUFFIXES` (lower-case, with the dot) and one of two ways to be read. Formats that are text as
they stand have `open_document(ref) -> Document` and read the source itself; those of many documents also
`members(path, options)`, which lists them. Formats that must be parsed have
`extract(file, options) -> Extraction`, which runs in a sandbox, and `version() -> str`, which changes whenever the
text it finds may; their text is kept in the run's store. Both raise DocumentError for a file that they cannot read.
A contract test runs over every module of this folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.folder import entries

if TYPE_CHECKING:
    from pipeline.records import Member
    from pipeline.text_store import TextStore


def reader_for(path: str) -> str | None:
    """Name of the format that reads files with this suffix, or None."""
    suffix = PurePath(path).suffix.lower()
    return next((name for name, module in entries(__name__).items() if suffix in module.SUFFIXES), None)


def known_suffixes() -> list[str]:
    """Every suffix that some format reads, sorted."""
    return sorted(suffix for module in entries(__name__).values() for suffix in module.SUFFIXES)


def members(reader: str, path: str, options: Mapping[str, str]) -> Iterator[Member] | None:
    """The documents that a file holds, or None if it is one itself. Listing them raises DocumentError, OSError."""
    module = entries(__name__).get(reader)
    if module is None or not hasattr(module, "members"):
        return None
    found: Iterator[Member] = module.members(path, options)
    return found


def open_document(ref: DocumentRef, store: TextStore) -> Document:
    """Open a document with the reader that its reference names. Raises DocumentError."""
    module = _module(ref)
    if hasattr(module, "extract"):
        return store.open(ref, module.version())
    document: Document = module.open_document(ref)
    return document


def is_parsed(ref: DocumentRef) -> bool:
    """Whether opening a document may mean parsing all of it. Raises DocumentError."""
    return hasattr(_module(ref), "extract")


def describe(ref: DocumentRef) -> str:
    """What can be said of a document without parsing it, in a few words. Raises DocumentError."""
    module = _module(ref)
    if not hasattr(module, "extract"):
        facts = module.open_document(ref).facts
        return f"{facts.encoding}, language {facts.language}"
    from pipeline.files import refuse_unreadable

    refuse_unreadable(ref.path)
    return f"{ref.reader}, to be parsed"


def _module(ref: DocumentRef) -> ModuleType:
    """The module of a reader, and no other: a worker need not load them all to open its first document."""
    if ref.reader.isidentifier() and importlib.util.find_spec(f"{__name__}.{ref.reader}"):
        return importlib.import_module(f"pipeline.formats.{ref.reader}")
    raise DocumentError(
        "open", "unsupported_type", f"no reader for this file; readable are {', '.join(known_suffixes())}"
    )
