"""Makes `output/` of the parts that the ledger names, with bytes that depend on the rows alone.

Rows are put in the order of the manifest and cut anew into row groups and files of fixed sizes, so it leaves no
trace how often a run was interrupted, which worker read what, or how the parts were cut. At any moment `output/`
is either absent or complete. Memory is bounded by one part and two row groups. Knows nothing of what the columns mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.dataset_card import card
from jobs.errors import ExitCode, JobError
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry
from jobs.records import Finished, Output, OutputFile
from jobs.run_directory import RunDirectory
from pipeline.ahead import one_ahead
from pipeline.durable import TEMPORARY, Disk, Point, read_bytes, sha256_hex
from pipeline.parts import STATES, Part

if TYPE_CHECKING:
    import pyarrow as pa

FILE_LIST: Final = "_MANIFEST.json"

# Columns with few different values; for all others a dictionary costs more than it saves.
_DICTIONARY: Final = frozenset(
    {
        "action",
        "doc_id",
        "encoding",
        "error_type",
        "field",
        "finish_reason",
        "language",
        "level",
        "method",
        "mode",
        "section",
        "stage",
        "status",
        "task",
        "unit",
    }
)
LATER_COLUMNS: Final = frozenset({"tokens_fed"})
"""Columns that parts of earlier versions have not."""

_COMPACT_AFTER: Final = 256  # tables held before they are made one: a table of one row takes kilobytes


@dataclass(frozen=True)
class Cut:
    """How a table is cut: rows per row group, and rows per file, a multiple of it."""

    group_rows: int
    file_rows: int


CUTS: Final[Mapping[str, Cut]] = {"sentences": Cut(8_192, 30 * 8_192), "vectors": Cut(8_192, 30 * 8_192)}
"""The cuts of tables with vectors; `DEFAULT_CUT` is for the others."""

DEFAULT_CUT: Final = Cut(25_000, 250_000)


@dataclass(frozen=True)
class Description:
    """What people and programs are told about the dataset: a title, and plain JSON values for dataset.json.

    Nothing in it may depend on when or where the run took place.
    """

    title: str
    details: Mapping[str, Any]


def finalize(
    run: RunDirectory,
    ledger: RunLedger,
    manifest: Sequence[ManifestEntry],
    schemas: Mapping[str, pa.Schema],
    description: Description,
    cuts: Mapping[str, Cut] = CUTS,
) -> Output:
    """Write `output/` and commit that it is complete. Every document of the manifest must be finished.

    `schemas` names the tables to write, metadata included; a table without rows becomes one file without rows.
    Raises JobError RUN-PART-DAMAGED (exit 6) if a part is not what the ledger says, OSError if the disk fails.
    """
    documents = _in_order(ledger.view, manifest)
    _refuse_unknown_tables(documents, schemas)
    disk = run.disk
    folder = run.path / f"output{TEMPORARY}e{ledger.epoch}"
    disk.remove_tree(folder)
    disk.make_folder(folder)
    files: list[OutputFile] = []
    for table in sorted(schemas):
        parts = [part for document in documents for part in document.parts_of(table)]
        files += _write_table(run, folder, table, schemas[table], parts, cuts.get(table, DEFAULT_CUT))
    rows = {table: sum(document.rows(table) for document in documents) for table in schemas}
    files += _write_descriptions(disk, folder, schemas, rows, description)
    disk.reach(Point.FINALIZE_BEFORE_MANIFEST)
    files.append(_write(disk, folder, FILE_LIST, _file_list(files)))
    disk.sync_folder(folder)
    _put_in_place(run, folder, ledger.epoch)
    record = Output(tuple(sorted(files, key=lambda file: file.path)))
    ledger.commit(record)
    disk.reach(Point.FINALIZE_AFTER_RECORD)
    disk.remove_tree(_old_output(run, ledger.epoch))
    return record


def materialise_states(run: RunDirectory, view: LedgerView) -> list[Path]:
    """Give every kept state its name in `states/`, and return their paths. Doing it again changes nothing.

    Raises JobError RUN-PART-DAMAGED (exit 6), OSError.
    """
    made = []
    for doc_id in sorted(view.finished_ids()):
        document = view.finished(doc_id)
        for part in document.parts_of(STATES) if document else ():
            read_part(run, part)
            path = state_path(run, part)
            run.disk.link(run.locate(part.path), path)
            run.disk.reach(Point.STATE_AFTER_LINK)
            made.append(path)
    return made


def state_path(run: RunDirectory, part: Part) -> Path:
    """Where a kept state belongs in `states/`. Raises JobError (exit 6) if its name is no plain file name."""
    if not part.name or "/" in part.name or part.name.startswith("."):
        raise _damaged_part(part, f"{part.name!r} is no name for a kept state")
    return run.states / part.name


def read_part(run: RunDirectory, part: Part) -> bytes:
    """The bytes of a part, checked against the ledger: size and sha256. Raises JobError RUN-PART-DAMAGED (exit 6)."""
    try:
        data = read_bytes(run.locate(part.path))
    except OSError as error:
        raise _damaged_part(part, error.strerror or str(error)) from error
    if len(data) != part.bytes:
        raise _damaged_part(part, f"{len(data):,} bytes, the ledger says {part.bytes:,}")
    if sha256_hex(data) != part.sha256:
        raise _damaged_part(part, "its content is not what was committed")
    return data


def part_tables(run: RunDirectory, part: Part, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a part, one row group at a time. Raises JobError RUN-PART-DAMAGED (exit 6)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_part(run, part)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        if file.metadata.num_rows != part.rows:
            raise _damaged_part(part, f"{file.metadata.num_rows} rows, the ledger says {part.rows}")
        for group in range(file.num_row_groups):
            # By this thread: most parts are small, and waking others for their columns takes longer than reading them.
            yield file.read_row_group(group, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged_part(part, str(error)) from error


def _in_order(view: LedgerView, manifest: Sequence[ManifestEntry]) -> list[Finished]:
    documents = [(entry, view.finished(entry.doc_id)) for entry in manifest]
    unread = [entry.uri for entry, document in documents if document is None]
    if unread:
        raise ValueError(f"{len(unread)} documents are not finished, the first is {unread[0]}")
    return [document for _, document in documents if document is not None]


def _refuse_unknown_tables(documents: Iterable[Finished], schemas: Mapping[str, Any]) -> None:
    tables = {part.table for document in documents for part in document.parts}
    unknown = sorted(tables - schemas.keys() - {STATES})
    if unknown:
        raise ValueError(f"the ledger has rows of {unknown[0]}, which is none of {', '.join(sorted(schemas))}")


def _write_table(
    run: RunDirectory, folder: Path, table: str, schema: pa.Schema, parts: Sequence[Part], cut: Cut
) -> list[OutputFile]:
    run.disk.make_folder(folder / table)
    groups = one_ahead(_row_groups(_rows(run, schema, parts), cut.group_rows))
    count = max(1, -(-sum(part.rows for part in parts) // cut.file_rows))
    written = []
    for number in range(count):
        name = f"{table}/part-{number:05d}-of-{count:05d}.parquet"
        written.append(_write_parquet(run.disk, folder, name, schema, groups, cut))
        run.disk.reach(Point.FINALIZE_AFTER_FILE)
    run.disk.sync_folder(folder / table)
    return written


def _write_parquet(
    disk: Disk, folder: Path, name: str, schema: pa.Schema, groups: Iterator[pa.Table], cut: Cut
) -> OutputFile:
    """Write the next `cut.file_rows` rows, or what is left, taking whole row groups from `groups`."""
    import pyarrow.parquet as pq

    vectors = [f"{column}.list.element" for column in _vector_columns(schema)]
    with disk.create(folder / name) as file:
        with pq.ParquetWriter(
            file,
            schema,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=[column for column in schema.names if column in _DICTIONARY],
            column_encoding=dict.fromkeys(vectors, "BYTE_STREAM_SPLIT") or None,
            write_page_index=True,
            write_page_checksum=True,
        ) as writer:
            for _ in range(cut.file_rows // cut.group_rows):
                group = next(groups, None)
                if group is None:
                    break
                writer.write_table(group, row_group_size=cut.group_rows)
        return OutputFile(name, file.size, file.sha256)


def _vector_columns(schema: pa.Schema) -> list[str]:
    import pyarrow as pa

    fields = [schema.field(name) for name in schema.names]
    return [
        item.name
        for item in fields
        if pa.types.is_fixed_size_list(item.type) and pa.types.is_floating(item.type.value_type)
    ]


def _rows(run: RunDirectory, schema: pa.Schema, parts: Iterable[Part]) -> Iterator[pa.Table]:
    import pyarrow as pa

    for part in parts:
        for table in part_tables(run, part):
            try:
                yield _with_all_columns(table, schema).cast(schema)
            except (pa.ArrowException, ValueError) as error:
                raise _damaged_part(part, f"not the columns of {part.table}: {error}") from error


def _with_all_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an earlier version has null where a column came later."""
    import pyarrow as pa

    for place, name in enumerate(schema.names):
        if name in LATER_COLUMNS and name not in table.schema.names:
            table = table.add_column(place, name, pa.nulls(table.num_rows, schema.field(name).type))
    return table


def _row_groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of all `tables`, in tables of `rows` rows each (the last may have fewer) of one chunk per column."""
    import pyarrow as pa

    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        if count >= rows:
            joined = pa.concat_tables(held)
            while joined.num_rows >= rows:
                yield joined.slice(0, rows).combine_chunks()
                joined = joined.slice(rows)
            held, count = [joined], joined.num_rows
        elif len(held) > _COMPACT_AFTER:
            held = [pa.concat_tables(held).combine_chunks()]
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _write_descriptions(
    disk: Disk,
    folder: Path,
    schemas: Mapping[str, pa.Schema],
    rows: Mapping[str, int],
    description: Description,
) -> list[OutputFile]:
    tables = {name: {"rows": rows[name], "columns": _columns(schemas[name])} for name in schemas}
    dataset = {**description.details, "title": description.title, "tables": tables}
    return [
        _write(disk, folder, "dataset.json", _json(dataset)),
        _write(disk, folder, "README.md", card(description.title, rows, schemas, FILE_LIST).encode("utf-8")),
    ]


def _columns(schema: pa.Schema) -> list[dict[str, str]]:
    return [{"name": name, "type": str(schema.field(name).type)} for name in schema.names]


def _file_list(files: Iterable[OutputFile]) -> bytes:
    return _json({"files": [asdict(file) for file in sorted(files, key=lambda file: file.path)]})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def _write(disk: Disk, folder: Path, name: str, data: bytes) -> OutputFile:
    with disk.create(folder / name) as file:
        file.write(data)
    return OutputFile(name, file.size, file.sha256)


def _old_output(run: RunDirectory, epoch: int) -> Path:
    return run.path / f"output{TEMPORARY}old-e{epoch}"


def _put_in_place(run: RunDirectory, folder: Path, epoch: int) -> None:
    disk = run.disk
    disk.reach(Point.FINALIZE_BEFORE_RENAME)
    if run.output.exists():
        disk.remove_tree(_old_output(run, epoch))
        disk.rename(run.output, _old_output(run, epoch))
        disk.reach(Point.FINALIZE_MOVED_ASIDE)
    disk.rename(folder, run.output)
    disk.reach(Point.FINALIZE_AFTER_RENAME)


def _damaged_part(part: Part, what: str) -> JobError:
    message = f"damaged: {what}; run again, and its document will be read again"
    return JobError("RUN-PART-DAMAGED", message, exit_code=ExitCode.ENVIRONMENT, where=part.path)
