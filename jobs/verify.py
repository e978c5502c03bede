"""Checks a run against its own records: ledger, parts, checkpoints, kept states, `output/` and its rows.

Nothing is changed and no model is needed. Knows nothing of how the rows came about.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from jobs.errors import JobError
from jobs.finalize import FILE_LIST, part_tables, read_part, state_path
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry, read_manifests
from jobs.records import Finished, Output
from jobs.run_directory import RunDirectory
from pipeline.durable import forget_cached, read_bytes, sha256_file
from pipeline.parts import STATES


def verify(run: RunDirectory) -> list[str]:
    """Every difference between what the run says and what is there, one line each. Empty: all is well.

    Raises JobError (exit 6) if the ledger or the manifest cannot be read: then nobody knows what is to be there.
    """
    view = RunLedger.read(run.ledger)
    manifest = read_manifests(run.manifests() or [run.manifest])
    documents = [document for entry in manifest if (document := view.finished(entry.doc_id))]
    growing = [Finished(rows.doc_id, "following", rows.parts) for rows in view.growing.values()]
    damaged = damaged_documents(run, [*documents, *growing])
    whole = [document for document in documents if document.doc_id not in damaged]
    return [
        *_ledger_differences(view, manifest),
        *damaged.values(),
        *_checkpoint_differences(run),
        *(line for document in whole for line in _document_differences(run, document)),
        *(line for document in documents if view.final for line in state_differences(run, document)),
        *(_output_differences(run, view.final, documents) if view.final else ()),
    ]


def damaged_documents(run: RunDirectory, documents: Iterable[Finished]) -> dict[str, str]:
    """Of these documents, those with a part that is not what the ledger says: their ids, and what is wrong.

    Parts are read from the disk, whatever the system holds of them in memory.
    """
    damaged: dict[str, str] = {}
    for document in documents:
        for part in document.parts:
            try:
                forget_cached(run.locate(part.path))
                read_part(run, part)
            except JobError as error:
                damaged.setdefault(document.doc_id, f"{part.path}: {error.message}")
    return damaged


def _ledger_differences(view: LedgerView, manifest: Sequence[ManifestEntry]) -> Iterator[str]:
    if view.torn is not None:
        yield f"{view.torn}: the last record is torn; running again sets it aside"
    listed = [entry.doc_id for entry in manifest]
    for doc_id in (doc_id for doc_id, count in Counter(listed).items() if count > 1):
        yield f"{doc_id}: more than once in the manifest"
    for doc_id in sorted(view.finished_ids() - set(listed)):
        yield f"{doc_id}: in the ledger, but not in the manifest"
    if view.final is not None:
        for doc_id in listed:
            if view.finished(doc_id) is None:
                yield f"{doc_id}: the run is finished, but this document is neither done nor quarantined"


def _checkpoint_differences(run: RunDirectory) -> Iterator[str]:
    for path in sorted(run.checkpoints.rglob("*.arrow")):
        try:
            if not path.stem.endswith("-" + sha256_file(path)[:32]):
                yield f"{path.relative_to(run.path)}: its content does not match the hash in its name"
        except FileNotFoundError:
            continue  # a run that goes on has removed it in the meantime
        except OSError as error:
            yield f"{path.relative_to(run.path)}: {error.strerror or error}"


def _document_differences(run: RunDirectory, document: Finished) -> Iterator[str]:
    """Rows of one document, whose parts are whole, against the ledger."""
    try:
        yield from _row_differences(run, document)
        yield from _sentence_differences(run, document)
        yield from _extraction_differences(run, document)
    except JobError as error:
        yield str(error)


def _row_differences(run: RunDirectory, document: Finished) -> Iterator[str]:
    rows = _column_rows(run, document, "documents", ("doc_id", "status", "coverage"))
    if len(rows) != 1:
        yield f"{document.doc_id}: {len(rows)} rows in documents, there must be one"
    for doc_id, status, coverage in rows:
        if (doc_id, status) != (document.doc_id, document.status):
            yield f"{document.doc_id}: its row in documents says {doc_id} {status}, the ledger {document.status}"
        if status == "ok" and coverage != 1.0:
            yield f"{document.doc_id}: status ok with a coverage of {coverage}"


def _sentence_differences(run: RunDirectory, document: Finished) -> Iterator[str]:
    rows = _column_rows(run, document, "sentences", ("id", "doc_id", "index"))
    for place, found in enumerate(rows):
        expected = (f"{document.doc_id}#s{place:07d}", document.doc_id, place)
        if found != expected:
            yield f"{document.doc_id}: sentence {place} is {found}, expected {expected}"
            return


def _extraction_differences(run: RunDirectory, document: Finished) -> Iterator[str]:
    """Quotes against their spans and, where they lie in the sentence that they name, against its text."""
    columns = ("id", "quote", "char_start", "char_end", "sentence_id", "value", "valid", "alignment")
    rows = _column_rows(run, document, "extractions", columns)
    texts = {}
    if rows:
        named = {row[4] for row in rows}
        sentences = _column_rows(run, document, "sentences", ("id", "text", "char_start"))
        texts = {sentence: (text, start) for sentence, text, start in sentences if sentence in named}
    for name, quote, start, end, sentence, value, valid, alignment in rows:
        if not quote or end - start != len(quote) or not valid or alignment != "exact" or not _is_json(value):
            yield f"{name}: its quote, value or span is not whole"
        elif sentence in texts:
            text, begin = texts[sentence]
            inside = text[start - begin :] if start >= begin else ""
            if not (inside.startswith(quote) or (inside and quote.startswith(inside))):
                yield f"{name}: its quote does not stand at its span"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _column_rows(run: RunDirectory, document: Finished, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for part in document.parts_of(table):
        for group in part_tables(run, part, columns):
            rows += zip(*(group.column(name).to_pylist() for name in columns), strict=True)
    return rows


def state_differences(run: RunDirectory, document: Finished) -> Iterator[str]:
    """What is wrong with the kept states of a document, once a finished run has given them their names."""
    for part in document.parts_of(STATES):
        try:
            if sha256_file(state_path(run, part)) != part.sha256:
                yield f"states/{part.name}: not the state that the ledger names"
        except JobError as error:
            yield str(error)
        except OSError as error:
            yield f"states/{part.name}: {error.strerror or error}"


def _output_differences(run: RunDirectory, final: Output, documents: Sequence[Finished]) -> Iterator[str]:
    damaged = list(file_differences(run, final))
    yield from damaged
    if damaged:
        return
    tables = sorted({file.path.split("/")[0] for file in final.files if file.path.endswith(".parquet")})
    for table in tables:
        paths = sorted(run.output.joinpath(file.path) for file in final.files if file.path.startswith(f"{table}/"))
        expected = [(document.doc_id, rows) for document in documents if (rows := document.rows(table))]
        yield from _order_differences(table, _runs_of_documents(paths), expected)


def file_differences(run: RunDirectory, final: Output) -> Iterator[str]:
    """What is wrong with the files of `output/`, by size, hash and presence."""
    for file in final.files:
        try:
            size, digest = (run.output / file.path).stat().st_size, sha256_file(run.output / file.path)
        except OSError as error:
            yield f"output/{file.path}: {error.strerror or error}"
            continue
        if (size, digest) != (file.bytes, file.sha256):
            yield f"output/{file.path}: changed since the run was finished ({size:,} bytes, were {file.bytes:,})"
    known = {file.path for file in final.files}
    there = {path.relative_to(run.output).as_posix() for path in run.output.rglob("*") if not path.is_dir()}
    yield from (f"output/{name}: does not belong to the run" for name in sorted(there - known))
    listed = _listed_files(run.output / FILE_LIST)
    if listed != [asdict(file) for file in final.files if file.path != FILE_LIST]:
        yield f"output/{FILE_LIST}: not the files that the ledger names"


def _listed_files(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs_of_documents(paths: Sequence[Path]) -> list[tuple[str, int]]:
    """How the documents follow each other in the files of a table: ids with the number of rows in a row."""
    import pyarrow.parquet as pq

    ids = (
        doc_id
        for path in paths
        for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(
            columns=["doc_id"], use_threads=False
        )
        for doc_id in batch.column(0).to_pylist()
    )
    return [(doc_id, sum(1 for _ in rows)) for doc_id, rows in groupby(ids)]


def _order_differences(
    table: str, found: Sequence[tuple[str, int]], expected: Sequence[tuple[str, int]]
) -> Iterator[str]:
    for there, wanted in zip(found, expected, strict=False):
        if there != wanted:
            yield f"output/{table}: {there[1]} rows of {there[0]} where {wanted[1]} of {wanted[0]} are expected"
            return
    if len(found) != len(expected):
        yield f"output/{table}: rows of {len(found)} documents, expected {len(expected)}"
