"""What a run is asked to do again or anew: documents tried again, files that are new, files that have changed.

A run's list of documents only grows: a later manifest adds entries behind the earlier ones and may say anew what a
changed file is, under its old place. What follows from that is a ledger record like any other, so a crash in between
costs nothing. Knows nothing of how documents are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from jobs.growth import read_on
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry, called, write_manifest
from jobs.prepare import Run, differs, list_inputs, stale_documents
from jobs.records import Invalidate
from pipeline.documents import FOLLOW

_PLACE: Final = frozenset({"start", "end", "line", "number"})


@dataclass(frozen=True)
class Refreshed:
    """What a look at the inputs has found, by URI."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    grown: tuple[str, ...]
    gone: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        found = (
            (self.new, "new file(s) are read too"),
            (self.changed, "file(s) have changed and are read again"),
            (
                self.grown,
                f"document{' has grown and is' if len(self.grown) == 1 else 's have grown and are'} continued",
            ),
            (self.gone, "file(s) are gone; what was read of them stays"),
        )
        return [f"{len(uris)} {what}, the first is {uris[0]}" for uris, what in found if uris]


def refresh_inputs(run: Run, ledger: RunLedger, manifest: Sequence[ManifestEntry]) -> Refreshed:
    """Add the files that the job names now to the run's documents, and have those read again that have changed.

    Of one that has only grown, what is new is read, if the run has kept its boundary.
    Raises JobError (exit 2) if the inputs cannot be listed, OSError.
    """
    known = {entry.doc_id: entry for entry in manifest}
    now = list_inputs(run.job)
    new = [entry for entry in now if entry.doc_id not in known]
    stale = set(stale_documents(run, manifest, ledger.view.done))
    changed = [
        replace(entry, ordinal=known[entry.doc_id].ordinal)
        for entry in now
        if entry.doc_id in known and _is_to_be_read_anew(entry, known[entry.doc_id], ledger.view, stale)
    ]
    gone = known.keys() - {entry.doc_id for entry in now} - {one.doc_id for one in manifest if FOLLOW in one.options}
    grown = {entry.doc_id for entry in changed if read_on(run, ledger, known[entry.doc_id], entry)}
    added = [replace(entry, ordinal=len(known) + number) for number, entry in enumerate(new)]
    if added or changed:
        # The record comes first: it also says that the run is not finished, which must be so once the list is longer.
        again = sorted(entry.doc_id for entry in changed if ledger.view.finished(entry.doc_id))
        ledger.commit(Invalidate(tuple(again), "the inputs were listed again"))
        write_manifest(run.directory.next_manifest(), [*changed, *added], run.directory.disk)
    return Refreshed(
        tuple(entry.uri for entry in new),
        tuple(entry.uri for entry in changed if entry.doc_id not in grown),
        tuple(entry.uri for entry in changed if entry.doc_id in grown),
        tuple(entry.uri for entry in manifest if entry.doc_id in gone),
    )


def retry(ledger: RunLedger, manifest: Sequence[ManifestEntry], documents: Sequence[str]) -> list[str]:
    """Have documents read again: those named as `called` does, or else all that have failed. Returns their URIs.

    Raises JobError (exit 2) for a name that is none of the run's.
    """
    asked = {called(manifest, name).doc_id for name in documents} or set(ledger.view.quarantined)
    again = [entry for entry in manifest if entry.doc_id in asked and ledger.view.finished(entry.doc_id)]
    if again:
        ledger.commit(Invalidate(tuple(sorted(entry.doc_id for entry in again)), "asked for"))
    return [entry.uri for entry in again]


def _is_to_be_read_anew(now: ManifestEntry, then: ManifestEntry, view: LedgerView, stale: set[str]) -> bool:
    """A finished document is read again if its content is another or is to be read in another way; one that is not yet
    read, as it is now."""
    if view.finished(now.doc_id) is None or now.doc_id in view.quarantined:
        return differs(then, now)
    return now.uri in stale or _way(then) != _way(now)


def _way(entry: ManifestEntry) -> dict[str, str]:
    """How a document is read: its options without the place it has in its file."""
    return {key: value for key, value in entry.options.items() if key not in _PLACE}
