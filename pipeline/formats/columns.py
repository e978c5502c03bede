"""Tables in columns: Parquet (.parquet, .pq) and Arrow files (.arrow, .feather), one document a row.

`text_key` names the column of the text, `id_key` that of the id, `metadata` those that go into `documents`. Columns may
be of any type but nested ones of the text. Rows are read in batches, so memory stays flat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.records import LARGEST, NAME_THE_TEXT, Member, Record, metadata_keys, unpacked_place

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES: Final = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
_BATCH_ROWS: Final = 256
_READ_BYTES: Final = 1 << 20
_PARQUET: Final = b"PAR1"
_ARROW: Final = b"ARROW1"
_FEATHER_1: Final = b"FEA1"
_SHOWN: Final = 8


def version() -> str:
    return "1"


def list_members(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Member]:
    """The rows of a table, in order; the size of each is that of an average one. Raises DocumentError."""
    table = _Columns(file)
    table.require([_text_key(options), *metadata_keys(options), *_id_keys(options)])
    size = table.bytes_per_row
    number = 0
    for batch in table.batches(_id_keys(options)):
        for row in range(batch.num_rows):
            name, found = _id(batch, row, options), {**options, **unpacked_place(number, f"row {number + 1}")}
            yield Member(name or str(number + 1), size, found, is_placed=not name)
            number += 1


def records(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Record]:
    """The same, with what is in them. Raises DocumentError."""
    key, keys = _text_key(options), metadata_keys(options)
    table = _Columns(file)
    wanted = list(dict.fromkeys([key, *keys, *_id_keys(options)]))
    table.require(wanted)
    number = 0
    for batch in table.batches(wanted):
        for row in range(batch.num_rows):
            text = batch.column(key)[row].as_py()
            found = {name: _as_text(batch.column(name)[row].as_py()) for name in keys}
            metadata = {name: value for name, value in found.items() if value is not None}
            yield _record(_id(batch, row, options) or str(number + 1), text, metadata)
            number += 1


def _record(name: str, text: Any, metadata: Mapping[str, str]) -> Record:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return Record(name, "", metadata, refused=f"its bytes are not UTF-8: {error.reason} at {error.start}")
    if not isinstance(text, str):
        return Record(name, "", metadata, refused=f"its text is {'null' if text is None else type(text).__name__}")
    if len(text) > LARGEST:
        return Record(name, "", metadata, refused=f"more than {LARGEST >> 20} MiB; make it a file of its own")
    return Record(name, text, metadata)


class _Columns:
    """A table whose batches of rows can be read one after the other, some columns of it."""

    def __init__(self, file: BinaryIO) -> None:
        head = file.read(8)
        file.seek(0)
        self._read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
        if head.startswith(_PARQUET):
            self._open_parquet(file)
        elif head.startswith(_ARROW):
            self._open_arrow(file)
        elif head.startswith(_FEATHER_1):
            raise DocumentError("parse", "unsupported_type", "Feather of version 1; write it anew with version 2")
        else:
            raise DocumentError("parse", "parse_error", "neither a Parquet nor an Arrow file")

    def _open_parquet(self, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            found = pq.ParquetFile(file, buffer_size=_READ_BYTES, pre_buffer=False, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error
        self._schema = found.schema_arrow
        total = sum(found.metadata.row_group(n).total_byte_size for n in range(found.metadata.num_row_groups))
        self.bytes_per_row = total // max(found.metadata.num_rows, 1)
        self._rows = found.metadata.num_rows
        self._read = lambda columns: found.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)

    def _open_arrow(self, file: BinaryIO) -> None:
        import os

        import pyarrow as pa

        try:
            found = pa.ipc.open_file(pa.PythonFile(file, mode="r"))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error
        self._schema = found.schema
        counts = [found.get_batch(n).num_rows for n in range(found.num_record_batches)]
        self._rows = sum(counts)
        self.bytes_per_row = os.fstat(file.fileno()).st_size // max(self._rows, 1)
        self._read = lambda columns: _parts(found, columns)

    def require(self, columns: Sequence[str]) -> None:
        """Raise DocumentError unless there are these columns."""
        missing = [name for name in columns if name not in self._schema.names]
        if missing:
            known = ", ".join(self._schema.names[:_SHOWN])
            message = f"no column {missing[0]!r} (there are {known}); {NAME_THE_TEXT}"
            raise DocumentError("parse", "parse_error", message)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows with these columns (none: only their number). Raises DocumentError."""
        import pyarrow as pa

        if not columns:
            yield from _empty(self._rows)
            return
        try:
            for batch in self._read(columns):
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error


def _parts(found: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file in smaller ones: validated before they are cut."""
    for number in range(found.num_record_batches):
        batch = found.get_batch(number)
        batch.validate(full=True)
        batch = batch.select(columns)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _empty(rows: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for start in range(0, rows, _BATCH_ROWS):
        yield pa.record_batch([pa.nulls(min(_BATCH_ROWS, rows - start))], names=[""])


def _damaged(error: Exception) -> DocumentError:
    reason = " ".join(str(error).split())[:200]
    return DocumentError("parse", "parse_error", f"a damaged table: {reason}; fetch the file again")


def _text_key(options: Mapping[str, str]) -> str:
    return options.get("text_key", "text")


def _id_keys(options: Mapping[str, str]) -> list[str]:
    return [options["id_key"]] if "id_key" in options else []


def _id(batch: pa.RecordBatch, row: int, options: Mapping[str, str]) -> str:
    """What a row has under `id_key`, or "" if nothing."""
    found = batch.column(options["id_key"])[row].as_py() if "id_key" in options else None
    return "" if found is None else str(found)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, default=str)
