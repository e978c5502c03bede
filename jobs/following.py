"""Documents that are followed: their rows are shown while they grow, and the file that takes their place comes next.

What the ledger says is committed of such a document is linked, part by part, below `live/`, where any reader of Parquet
finds it; once the run is finished `output/` holds all of it and `live/` goes. Nothing is decided by these links. A file
that was rotated or cut short is over as a document; what stands at its path then is the next one, `app.log#2`. Knows
nothing of how documents are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jobs.finalize import part_tables, read_part
from jobs.ledger import RunLedger
from jobs.manifest import ManifestEntry, document_id, write_manifest
from jobs.prepare import Job, Run, reference
from pipeline.documents import FOLLOW, DocumentRef
from pipeline.durable import sha256_file
from pipeline.parts import STATES, Part

LIVE: Final = "live"
FOLLOWING: Final = "follow"
"""The reason of an epoch in which documents are followed."""


def is_followed(entry: ManifestEntry) -> bool:
    """Whether a document was listed to be followed."""
    return FOLLOW in entry.options


def follows(job: Job) -> bool:
    """Whether the job has documents followed now; otherwise those that were are read to where they end."""
    return any(entry.follow for entry in job.spec.inputs)


class Followed:
    """The documents of a run that are followed. Owns `live/` and what is added to the list of documents."""

    def __init__(self, run: Run, ledger: RunLedger, manifest: Sequence[ManifestEntry]) -> None:
        self._run = run
        self._ledger = ledger
        self._entries = {entry.doc_id: entry for entry in manifest}
        self._shown: dict[str, Sequence[Part]] = {}

    @property
    def count(self) -> int:
        """How many documents have no end for now."""
        view = self._ledger.view
        open_ones = (one for one in self._entries.values() if is_followed(one) and not view.finished(one.doc_id))
        return sum(1 for _ in open_ones) if follows(self._run.job) else 0

    def reference(self, entry: ManifestEntry) -> DocumentRef:
        """What a worker is given of a document, followed or not."""
        spec = self._run.job.spec
        language = None if spec.split.language == "auto" else spec.split.language
        return reference(entry, self._run.job.root).as_followed(follows(self._run.job), language)

    def begin(self) -> None:
        """Bring `live/` and the list of documents to where the ledger stands, whatever a crash has left undone."""
        view = self._ledger.view
        if view.final is not None:
            self.end()
            return
        for entry in list(self._entries.values()):
            if is_followed(entry) and (done := view.done.get(entry.doc_id)):
                self.show(entry.doc_id, done.parts)
                self.successor(entry.doc_id)
            elif rows := view.growing.get(entry.doc_id):
                self.show(entry.doc_id, rows.parts)

    def end(self) -> None:
        """The tables are in `output/` now. Raises OSError."""
        self._run.directory.disk.remove_tree(self._run.directory.path / LIVE)

    def show(self, doc_id: str, parts: Sequence[Part]) -> None:
        """Link a document's committed rows below `live/`. Raises OSError."""
        if not is_followed(self._entries[doc_id]):
            return
        shown = self._shown.get(doc_id, ())
        begun = list(parts[: len(shown)]) == list(shown)
        links = {self._place(doc_id, number, part): part for number, part in enumerate(parts) if part.table != STATES}
        if not begun or not shown:
            self._remove_others(doc_id, links)
        for path, part in links.items():
            if not (begun and part in shown):
                self._link(path, part)
        self._shown[doc_id] = parts

    def successor(self, doc_id: str) -> DocumentRef | None:
        """What stands where a document was that is over, as a document of its own; None if it is known or the same."""
        before = self._entries[doc_id]
        if not is_followed(before):
            return None
        file = before.uri.removesuffix(f"#{before.member}") if before.member else before.uri
        member = str(int(before.member or 1) + 1)
        name = document_id(file, member)
        if name in self._entries or not (follows(self._run.job) or self._is_another_file(before)):
            return None
        entry = replace(before, ordinal=len(self._entries), doc_id=name, uri=f"{file}#{member}", member=member)
        entry = replace(entry, size=0, mtime_ns=0)
        write_manifest(self._run.directory.next_manifest(), [entry], self._run.directory.disk)
        self._entries[name] = entry
        return self.reference(entry)

    def _is_another_file(self, entry: ManifestEntry) -> bool:
        """Whether the file at the path no longer begins with what was read."""
        done = self._ledger.view.done[entry.doc_id]
        path = entry.path(self._run.job.root)
        read = next(row["bytes"] for part in done.parts_of("documents") for row in self._rows(part))
        return path.is_file() and sha256_file(path, read) != done.source_sha256

    def _rows(self, part: Part) -> Iterator[dict[str, Any]]:
        for rows in part_tables(self._run.directory, part, ["bytes"]):
            yield from rows.to_pylist()

    def _place(self, doc_id: str, number: int, part: Part) -> Path:
        return self._run.directory.path / LIVE / part.table / f"{doc_id}-{number:06d}.parquet"

    def _link(self, path: Path, part: Part) -> None:
        directory = self._run.directory
        if not _is_that_part(path, directory.locate(part.path), part):
            read_part(directory, part)
            directory.disk.make_folder(path.parent)
            directory.disk.link(directory.locate(part.path), path)

    def _remove_others(self, doc_id: str, links: Mapping[Path, Part]) -> None:
        """Remove what was shown of an earlier reading."""
        for path in sorted((self._run.directory.path / LIVE).glob(f"*/{doc_id}-*.parquet")):
            if path not in links:
                self._run.directory.disk.remove(path)


def _is_that_part(path: Path, source: Path, part: Part) -> bool:
    try:
        return os.path.samefile(path, source) or sha256_file(path) == part.sha256
    except OSError:
        return False
