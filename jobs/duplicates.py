"""Documents with the content of another: read once, their rows copied under their own ids.

Only files of one size, format and options are compared, by their hashes, so files without a twin cost nothing. A copy
is made from the committed rows of a document that was read whole, and only while the twin's file still holds what was
read; in every other case the twin is read itself. Either way its rows are the same. Records of a file are not compared.
Knows nothing of workers or of what the rows mean.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import JobError
from jobs.finalize import part_tables, read_part
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry
from jobs.prepare import Run
from jobs.records import Done, Finished
from pipeline.documents import FOLLOW
from pipeline.durable import sha256_file
from pipeline.parts import STATES, Attempt, Part, PartWriter

if TYPE_CHECKING:
    import pyarrow as pa

_OWN_IDS: Final = ("id", "doc_id", "sentence_id", "state_path")
_GROUP_DOCUMENTS: Final = 64


def settle(run: Run, ledger: RunLedger, manifest: Sequence[ManifestEntry]) -> set[str]:
    """Finish the documents whose content was read already; the ids of those that should wait for a twin to be read.

    To be called again once what does not wait has been read; then none waits any longer. Raises OSError if the disk
    fails.
    """
    waiting: set[str] = set()
    made: list[Finished] = []
    for twins in _groups(run, manifest, ledger.view):
        unread = [entry for entry in twins if not ledger.view.finished(entry.doc_id)]
        read = [(entry, done) for entry in twins if (done := ledger.view.finished(entry.doc_id))]
        if not read:
            waiting.update(entry.doc_id for entry in unread[1:])
        whole = next(((entry, done) for entry, done in read if done.status == "ok"), None)
        for entry in unread if whole else ():
            made += _copies(run, ledger, whole, entry) if whole else ()
            if len(made) >= _GROUP_DOCUMENTS:
                ledger.commit(Done(tuple(made)))
                made = []
    if made:
        ledger.commit(Done(tuple(made)))
    return waiting


def _groups(run: Run, manifest: Sequence[ManifestEntry], view: LedgerView) -> Iterator[list[ManifestEntry]]:
    """Documents of one content, two or more, at least one of them not finished; in the order of the manifest."""
    alike: dict[str, list[ManifestEntry]] = defaultdict(list)
    for entry in manifest:
        if entry.size and not entry.member and FOLLOW not in entry.options:
            suffixes = PurePath(entry.uri).suffixes[-2:]
            alike[json.dumps([entry.size, entry.reader, sorted(entry.options.items()), suffixes])].append(entry)
    for group in alike.values():
        if len(group) > 1 and any(view.finished(entry.doc_id) is None for entry in group):
            yield from (twins for twins in _by_content(run, group, view) if len(twins) > 1)


def _by_content(run: Run, group: Iterable[ManifestEntry], view: LedgerView) -> Iterable[list[ManifestEntry]]:
    """What was read of a finished document counts, not what its file holds now."""
    same: dict[str, list[ManifestEntry]] = defaultdict(list)
    for entry in group:
        finished = view.finished(entry.doc_id)
        try:
            sha256 = finished.source_sha256 if finished and finished.source_sha256 else None
            same[sha256 or sha256_file(entry.path(run.job.root))].append(entry)
        except OSError:
            continue  # reading it says what is wrong
    return same.values()


def _copies(
    run: Run, ledger: RunLedger, whole: tuple[ManifestEntry, Finished], twin: ManifestEntry
) -> Iterator[Finished]:
    """The twin as a finished document; nothing if the parts that it would be made of are damaged."""
    entry, done = whole
    attempt = Attempt(twin.doc_id, ledger.epoch, 1)
    writer = PartWriter(run.directory.path, run.directory.disk)
    try:
        parts = tuple(_copy(run, writer, attempt, part, entry, twin, n) for n, part in enumerate(done.parts))
    except JobError:
        return
    yield Finished(twin.doc_id, done.status, parts, done.source_sha256, done.tokens)


def _copy(
    run: Run, writer: PartWriter, attempt: Attempt, part: Part, entry: ManifestEntry, twin: ManifestEntry, number: int
) -> Part:
    if part.table == STATES:
        name = (part.name or "").replace(entry.doc_id, twin.doc_id, 1)
        return writer.state(attempt, read_part(run.directory, part), name)
    import pyarrow as pa

    rows = pa.concat_tables(_renamed(rows, entry, twin) for rows in part_tables(run.directory, part))
    return writer.rows(attempt, rows, part.table, number)


def _renamed(rows: pa.Table, entry: ManifestEntry, twin: ManifestEntry) -> pa.Table:
    """The same rows under the ids and the address of the twin."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(rows.schema):
        column = rows.column(place)
        if field.name in _OWN_IDS:
            found = pc.replace_substring(column, entry.doc_id, twin.doc_id, max_replacements=1)
        elif field.name == "source_uri":
            found = pa.array([twin.uri] * len(rows), field.type)
        elif pa.types.is_nested(field.type) and any(f"{name}:" in str(field.type) for name in _OWN_IDS):
            found = pa.array([_with_ids(value, entry.doc_id, twin.doc_id) for value in column.to_pylist()], field.type)
        else:
            continue
        rows = rows.set_column(place, field, found)
    return rows


def _with_ids(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [_with_ids(one, old, new) for one in value]
    if isinstance(value, dict):
        return {
            key: one.replace(old, new, 1) if key in _OWN_IDS and isinstance(one, str) else _with_ids(one, old, new)
            for key, one in value.items()
        }
    return value
