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

from jobs.errors import JobError
from jobs.finalize import part_tables, read_part
from jobs.growth import stood
from jobs.ledger import RunLedger
from jobs.manifest import ManifestEntry, document_id, write_manifest
from jobs.prepare import Job, Run, list_inputs, reference
from jobs.records import Finished, Invalidate
from pipeline.documents import FOLLOW, DocumentRef
from pipeline.durable import sha256_file
from pipeline.errors import CheckpointError
from pipeline.parts import STATES, Attempt, Part

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
        """What a worker is given of a document, followed or not; one that is followed with the size it has now."""
        spec, ref = self._run.job.spec, reference(entry, self._run.job.root)
        if not is_followed(entry):
            return ref
        language = None if spec.split.language == "auto" else spec.split.language
        size = os.path.getsize(ref.path) if os.path.isfile(ref.path) else 0  # all of it is hashed when it is taken up
        return replace(ref, size=size).as_followed(follows(self._run.job), language)

    def begin(self) -> list[str]:
        """Bring `live/` and the list of documents to where the ledger stands, whatever a crash has left undone.

        Documents that were read to their ends and are to be followed again are opened anew. Returns lines for people.
        """
        view, said = self._ledger.view, []
        if follows(self._run.job):
            said += self._adopt()
            said += self._reopen()
        if view.final is not None:
            self.end()
            return said
        for entry in list(self._entries.values()):
            if is_followed(entry) and (done := view.done.get(entry.doc_id)):
                self.show(entry.doc_id, done.parts)
                self.successor(entry.doc_id)
            elif rows := view.growing.get(entry.doc_id):
                self.show(entry.doc_id, rows.parts)
        return said

    def _adopt(self) -> list[str]:
        """Follow also what the run has listed as files that end, once the job says so; they are read anew."""
        try:
            listed = [entry for entry in list_inputs(self._run.job) if is_followed(entry)]
        except JobError:
            return []  # it has been said that they cannot be listed
        known = ((entry, self._entries.get(entry.doc_id)) for entry in listed)
        changed = [replace(new, ordinal=old.ordinal) for new, old in known if old is not None and not is_followed(old)]
        if not changed:
            return []
        finished = sorted(entry.doc_id for entry in changed if self._ledger.view.finished(entry.doc_id))
        self._ledger.commit(Invalidate(tuple(finished), "followed from now on"))
        write_manifest(self._run.directory.next_manifest(), changed, self._run.directory.disk)
        self._entries |= {entry.doc_id: entry for entry in changed}
        return [f"{len(changed)} document(s) are followed from now on and read anew, the first is {changed[0].uri}"]

    def _reopen(self) -> list[str]:
        """Have those whose files are still theirs go on from where they stood, or else from their beginnings."""
        done = self._ledger.view.done
        again = [one for one in self._entries.values() if is_followed(one) and self._goes_on(one)]
        anew = [entry.uri for entry in again if not self._stand(done[entry.doc_id])]
        if again or (self._ledger.view.final and any(map(is_followed, self._entries.values()))):
            self._ledger.commit(Invalidate(tuple(sorted(entry.doc_id for entry in again)), "followed again"))
        why = "; a task of type state with `boundary: true` keeps where they stood"
        return [f"{len(anew)} document(s) are read anew, the first is {anew[0]}{why}"] if anew else []

    def _goes_on(self, entry: ManifestEntry) -> bool:
        if entry.doc_id not in self._ledger.view.done or not entry.path(self._run.job.root).is_file():
            return False
        return _next_id(entry) not in self._entries and not self._is_another_file(entry)

    def _stand(self, done: Finished) -> bool:
        """Make a checkpoint of where a finished document stood, if that was kept."""
        from pipeline.checkpoints import CheckpointFolder

        try:
            checkpoint = stood(self._run, done)
        except (JobError, CheckpointError):
            return False
        if checkpoint is None:
            return False
        info, directory = self._run.directory.info, self._run.directory
        identity = replace(checkpoint.identity, run_id=info.run_id, spec=info.spec_fp)
        attempt = Attempt(done.doc_id, self._ledger.epoch, 0)
        CheckpointFolder(directory.path, directory.disk).save(replace(checkpoint, identity=identity), attempt)
        return True

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
        file, member, name = _file(before), _next_member(before), _next_id(before)
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


def _file(entry: ManifestEntry) -> str:
    return entry.uri.removesuffix(f"#{entry.member}") if entry.member else entry.uri


def _next_member(entry: ManifestEntry) -> str:
    return str(int(entry.member or 1) + 1)


def _next_id(entry: ManifestEntry) -> str:
    """The id of the document that takes the place of this one."""
    return document_id(_file(entry), _next_member(entry))


def _is_that_part(path: Path, source: Path, part: Part) -> bool:
    try:
        return os.path.samefile(path, source) or sha256_file(path) == part.sha256
    except OSError:
        return False
