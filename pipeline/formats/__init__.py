"""Document formats, one module each.

A format module has `SUFFIXES` (lower-case, with the dot; `.jsonl.gz` comes before `.gz`) and one of three ways to be
read. Formats that are text as they stand have `open_document(ref) -> Document` and read the source itself. Formats that
must be parsed have `extract(file, options) -> Extraction`, which runs in a sandbox, and `version() -> str`, which
changes whenever the text it finds may; their text is kept in the run's store. Formats of records that must be unpacked
have `records(file, options) -> Iterator[Record]` and `version()`; all records of a file are unpacked at once, in a
sandbox, and kept there. Formats that are text as they stand and read the same text from a file however much is
appended to it have `GROWS`; their blocks say what the end of the file has a part in.

A module may say what is to be expected of a file that is not opened yet: `TEXT_SHARE`, bytes of text for each byte of
the file (1 if it says nothing), and `count_pages(path) -> int | None`.

Files of many documents list them: with `members(path, options)`, or with `list_members(file, options)`, which runs in
a sandbox; both give Members. All raise DocumentError for a file that they cannot read. A contract test runs over every
module of this folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.documents import Document, DocumentFacts, DocumentRef
from pipeline.errors import DocumentError
from pipeline.folder import entries
from pipeline.remote import fetched, is_remote, look

if TYPE_CHECKING:
    from pipeline.records import Member
    from pipeline.text_store import TextStore


def reader_for(path: str) -> str | None:
    """Name of the format that reads files with this suffix, or None."""
    suffixes = PurePath(path.lower()).suffixes
    for suffix in ("".join(suffixes[-2:]), "".join(suffixes[-1:])):
        for name, module in entries(__name__).items():
            if suffix in module.SUFFIXES:
                return name
    return None


def known_suffixes() -> list[str]:
    """Every suffix that some format reads, sorted."""
    return sorted(suffix for module in entries(__name__).values() for suffix in module.SUFFIXES)


def members(reader: str, path: str, options: Mapping[str, str]) -> Iterator[Member] | None:
    """The documents that a file holds, or None if it is one itself. Listing them raises DocumentError, OSError."""
    module = entries(__name__).get(reader)
    if is_remote(path) and (hasattr(module, "list_members") or hasattr(module, "members")):
        return _listed_elsewhere(reader, path, options)
    if hasattr(module, "list_members"):
        return _listed_in_sandbox(reader, path, options)
    listing: Callable[[str, Mapping[str, str]], Iterator[Member]] | None = getattr(module, "members", None)
    return listing(path, options) if listing else None


def _listed_elsewhere(reader: str, path: str, options: Mapping[str, str]) -> Iterator[Member]:
    """The documents of a file on a store, which is fetched for as long as they are listed."""
    from pipeline.durable import Disk

    file = look(path)
    if file is None:
        return
    with TemporaryDirectory(prefix="unspool-") as folder:
        ref = fetched(DocumentRef("", path, path, file.size, file.mtime_ns, reader), Path(folder), Disk())
        yield from members(reader, ref.path, options) or ()


def _listed_in_sandbox(reader: str, path: str, options: Mapping[str, str]) -> Iterator[Member]:
    from pipeline.files import opened
    from pipeline.records import Member
    from pipeline.sandbox import Limits, list_members

    with opened(path) as source:
        size, told = os.fstat(source).st_size, {**options, "name": os.path.basename(path)}
        for found in list_members(reader, source, size, told, Limits()):
            if "about" in found:
                return
            own = {key: value for key, value in found["options"].items() if key != "name"}
            yield Member(found["name"], found["size"], own, found["is_placed"])


def open_document(ref: DocumentRef, store: TextStore) -> Document:
    """Open a document with the reader that its reference names. Raises DocumentError.

    What its option `given` says of it (a JSON object of texts) is put into its facts, and one of more bytes than its
    option `max_bytes` is refused; readers do not see these options.
    """
    _refuse_larger(ref)
    if is_remote(ref.path):
        return open_document(fetched(ref, store.folder, store.disk), store)
    given = ref.options.get("given")
    options = {key: value for key, value in ref.options.items() if key not in ("given", "max_bytes")}
    document: Any = _open(replace(ref, options=options), store)
    if given is not None:
        facts = replace(document.facts, metadata={**document.facts.metadata, **json.loads(given)})
        document = replace(document, facts=facts)
    opened: Document = document
    return opened


def _refuse_larger(ref: DocumentRef) -> None:
    """Raise DocumentError if a document is larger than its option `max_bytes` allows."""
    most = int(ref.options.get("max_bytes", ref.size))
    if ref.size > most:
        message = f"{ref.size:,} bytes, and inputs.max_bytes is {most:,}; raise that, or split the file"
        raise DocumentError("open", "too_large", message)


def _open(ref: DocumentRef, store: TextStore) -> Document:
    module = _module(ref)
    if hasattr(module, "extract"):
        return store.open(ref, module.version())
    if hasattr(module, "records"):
        from pipeline.record_store import RecordStore

        return RecordStore(store.folder, store.disk, store.limits).open(ref, module.version())
    document: Document = module.open_document(ref)
    return document


def is_parsed(ref: DocumentRef) -> bool:
    """Whether opening a document may mean parsing all of it. Raises DocumentError."""
    return hasattr(_module(ref), "extract")


def facts_of_growing(ref: DocumentRef) -> DocumentFacts | None:
    """The facts of a local document whose format lets it grow; None for other formats. Raises DocumentError."""
    module = _module(ref)
    if is_remote(ref.path) or not getattr(module, "GROWS", False):
        return None
    facts: DocumentFacts = module.open_document(ref).facts
    return facts


@dataclass(frozen=True)
class Estimate:
    """What a document may turn out to hold, by its size alone; `pages` is None where there are none to be seen."""

    text_bytes: int
    pages: int | None


def estimate(ref: DocumentRef) -> Estimate:
    """What a document may hold, without opening it. Nothing is raised: one that cannot be read has no pages."""
    module = entries(__name__).get(ref.reader)
    count: Callable[[str], int | None] | None = getattr(module, "count_pages", None)
    pages = count(ref.path) if count is not None and not is_remote(ref.path) and "number" not in ref.options else None
    return Estimate(round(ref.size * getattr(module, "TEXT_SHARE", 1.0)), pages)


def describe(ref: DocumentRef) -> str:
    """What can be said of a document without parsing it, in a few words. Raises DocumentError."""
    module = _module(ref)
    _refuse_larger(ref)
    if is_remote(ref.path):
        return f"{ref.reader}, to be fetched"
    if hasattr(module, "open_document"):
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
