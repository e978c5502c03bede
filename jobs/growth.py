"""Documents that have grown: whether a file still begins with what was read of it, and where it is read on.

A finished document that kept its boundary has, among its parts, where the reading stood there, and in front of that
the rows until there. Both become a checkpoint of the longer document, so that a worker goes on from it as from any
other. In doubt a document is read anew. Knows nothing of how documents are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import JobError
from jobs.finalize import part_tables, read_part
from jobs.ledger import RunLedger
from jobs.manifest import ManifestEntry
from jobs.prepare import Run, reference
from jobs.records import Finished
from pipeline.durable import sha256_file
from pipeline.errors import CheckpointError, DocumentError
from pipeline.parts import Attempt, Part, standing_name

if TYPE_CHECKING:
    from pipeline.checkpoints import Checkpoint
    from pipeline.documents import DocumentFacts

_SAME_FACTS: Final = ("encoding", "title", "language")
"""What of a document's facts a task may have made use of while it was read."""


def read_on(run: Run, ledger: RunLedger, then: ManifestEntry, now: ManifestEntry) -> bool:
    """Have a document that has grown gone on with once it is read; False if it has changed in another way.

    To be called while the ledger still says what was read of it. Raises OSError if the disk fails.
    """
    from pipeline.checkpoints import CheckpointFolder

    done = ledger.view.done.get(now.doc_id)
    if done is None or now.member or then.options != now.options:
        return False
    try:
        facts = _facts_if_grown(run, done, now)
        checkpoint = stood(run, done) if facts else None
    except (JobError, DocumentError, CheckpointError, OSError):
        return False
    if facts is None or checkpoint is None:
        return False
    text = facts.text_id or facts.source_sha256
    info = run.directory.info
    identity = replace(checkpoint.identity, run_id=info.run_id, spec=info.spec_fp, source_sha256=text)
    folder = CheckpointFolder(run.directory.path, run.directory.disk)
    folder.save(replace(checkpoint, identity=identity), Attempt(now.doc_id, ledger.epoch, 0))
    return True


def _facts_if_grown(run: Run, done: Finished, now: ManifestEntry) -> DocumentFacts | None:
    """The facts of the longer file, if what was read is still its beginning and is read in the same way."""
    from pipeline.formats import facts_of_growing

    facts = facts_of_growing(reference(now, run.job.root))
    before = next(row for part in done.parts_of("documents") for row in _rows(run, part))
    if facts is None or facts.bytes <= before["bytes"]:
        return None
    if any((getattr(facts, name) or None) != before[name] for name in _SAME_FACTS):
        return None
    begins_alike = sha256_file(Path(now.source(run.job.root)), before["bytes"]) == done.source_sha256
    return facts if begins_alike else None


def _rows(run: Run, part: Part) -> list[dict[str, Any]]:
    return [row for rows in part_tables(run.directory, part) for row in rows.to_pylist()]


def stood(run: Run, done: Finished) -> Checkpoint | None:
    """Where the reading stood at the boundary, with the parts of the rows until there; None if that was not kept.

    Raises JobError, CheckpointError for a part that is damaged.
    """
    from pipeline.checkpoints import from_bytes

    name = standing_name(done.doc_id)
    place = next((place for place, part in enumerate(done.parts) if part.name == name), None)
    if place is None:
        return None
    found = from_bytes(read_part(run.directory, done.parts[place]))
    if found.identity.doc_id != done.doc_id:  # the copy that a twin has
        return None
    return replace(found, parts=done.parts[:place])
