"""Tables of a finished run as values to hand on: batches of rows in flat memory, with vectors cut short on request.

A table is read row group by row group, whatever its size. Knows nothing of where the rows go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import OptionError
from pipeline.tasks.embed import shortened

BATCH_ROWS: Final = 1024
_EMBEDDING: Final = b"unspool.embedding"
_PAIRS: Final = ("key", "value")


@dataclass(frozen=True)
class ExportTable:
    """A table of a run. `schema` is that of the rows as handed on, `dims` (None: all) what is left of vectors."""

    name: str
    files: tuple[Path, ...]
    schema: pa.Schema
    rows: int
    dims: int | None = None

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows in order, at most that many at a time. Raises pa.ArrowException, OSError for a damaged file."""
        for file in self.files:
            yield from self.batches_of(file, rows)

    def batches_of(self, file: Path, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows of one of the files."""
        # With pre_buffer, which is on unless told otherwise, pyarrow keeps all that it has read until the end.
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(batch_size=rows):
                columns = [self._handed_on(batch.column(name), name) for name in self.schema.names]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as a stream that other libraries take in."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def with_pairs(self) -> ExportTable:
        """This table with every map as a list of {key, value}, for what knows no maps."""
        fields = [field.with_type(_pairs(field.type)) for field in self.schema]
        return replace(self, schema=pa.schema(fields, self.schema.metadata))

    def _handed_on(self, column: pa.Array, name: str) -> pa.Array:
        wanted = self.schema.field(name).type
        if self.dims is not None and vector_size(wanted) is not None:
            return _cut(column, self.dims)
        return column.cast(wanted)


@dataclass(frozen=True)
class Dataset:
    """What is handed on: a title for people, and tables in the order of their names."""

    title: str
    tables: tuple[ExportTable, ...]


class JsonText(str):
    """A value that is JSON already."""

    __slots__ = ()


class BitText(str):
    """A vector of bits, in hexadecimal digits."""

    __slots__ = ()


@dataclass(frozen=True)
class SinkOptions:
    """What some sinks can be told. `raw`: leave text as it is where the sink would make it harmless."""

    raw: bool = False


def open_table(name: str, files: Sequence[Path], dims: int | None = None) -> ExportTable:
    """A table in Parquet files of one schema, its vectors cut to their first `dims` dimensions and to length 1 again.

    Raises OptionError if they have fewer, pa.ArrowException and OSError for a damaged file.
    """
    schema = pq.read_schema(files[0])
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    fields = [_shortened_field(field, dims, name) for field in schema] if dims is not None else list(schema)
    return ExportTable(name, tuple(files), pa.schema(fields, _marks(schema.metadata, dims)), rows, dims)


def vector_size(kind: pa.DataType) -> int | None:
    """How many dimensions the vectors of a column have, or None if it holds none."""
    if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type):
        return int(kind.list_size)
    return None


def plain_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as JSON can say them: float32 in the fewest digits that give it back, maps as objects, NaN as null.

    Vectors are JsonText already: written by Arrow, ten times as fast as number by number. Those of bits are BitText.
    """
    columns = {
        name: _plain(column, column.type) for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _plain(column: pa.Array, kind: pa.DataType) -> list[Any]:
    if pa.types.is_map(kind):
        return [None if pairs is None else dict(pairs) for pairs in column.to_pylist()]
    if vector_size(kind) is not None:
        return _vectors(column, kind.list_size)
    if pa.types.is_fixed_size_binary(kind):
        return [None if packed is None else BitText(packed.hex()) for packed in column.to_pylist()]
    if pa.types.is_floating(kind):
        shortest = column.cast(pa.string()).cast(pa.float64()) if kind != pa.float64() else column
        return [None if number is None or not np.isfinite(number) else number for number in shortest.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _vectors(column: pa.FixedSizeListArray, size: int) -> list[JsonText | None]:
    numbers = column.flatten()  # without those of rows that are null
    texts = pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), "null")
    offsets = pa.array(range(0, len(texts) + 1, size), pa.int32())
    joined = iter(pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ", ").to_pylist())
    return [JsonText(f"[{next(joined)}]") if there else None for there in column.is_valid().to_pylist()]


def _cut(column: pa.FixedSizeListArray, dims: int) -> pa.Array:
    """Vectors [n] of their first `dims` dimensions, of length 1 again; null stays null."""
    size, valid = column.type.list_size, column.is_valid().to_numpy(zero_copy_only=False)
    vectors = np.zeros((len(column), dims), np.float32)
    vectors[valid] = shortened(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size), dims)
    values = pa.array(vectors.reshape(-1), column.type.value_type)
    return pa.FixedSizeListArray.from_arrays(values, dims, mask=pa.array(~valid))


def _shortened_field(field: pa.Field, dims: int, table: str) -> pa.Field:
    size = vector_size(field.type)
    if size is None:
        return field
    if not 1 <= dims <= size:
        raise OptionError(f"the vectors of {table} have {size} dimensions, {dims} cannot be kept; write 1 to {size}")
    return field.with_type(pa.list_(field.type.value_type, dims))


def _marks(metadata: dict[bytes, bytes] | None, dims: int | None) -> dict[bytes, bytes]:
    known = dict(metadata or {})
    if dims is not None and _EMBEDDING in known:
        known[_EMBEDDING] = json.dumps({**json.loads(known[_EMBEDDING]), "dimensions": dims}, sort_keys=True).encode()
    return known


def _pairs(kind: pa.DataType) -> pa.DataType:
    if not pa.types.is_map(kind):
        return kind
    return pa.list_(pa.struct(list(zip(_PAIRS, (kind.key_type, kind.item_type), strict=True))))
