"""PostgreSQL with pgvector: a file for `psql -f`, or straight into a database. A table each, in one transaction.

Vectors of up to 2,000 dimensions are `vector`, longer ones `halfvec`: what each can be indexed with. Lists and maps
are `jsonb`. PostgreSQL has no U+0000 in text; U+FFFD stands for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import MissingExtraError, SinkError
from pipeline.exported import BitText, Dataset, ExportTable, JsonText, SinkOptions, plain_rows, vector_size

SUFFIX: Final = ".sql"
OPTIONS: Final = frozenset[str]()
_LONGEST_VECTOR: Final = 2_000
_LONGEST_HALFVEC: Final = 16_000
_LONGEST_INDEXED: Final = 4_000
_KEYS: Final = ("id", "doc_id")
_EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS vector"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\ufffd"})


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the file. Raises SinkError (vectors that pgvector has no type for), OSError."""
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(f"-- psql -v ON_ERROR_STOP=1 -f {target.name} DATABASE\nBEGIN;\n{_EXTENSION};\n")
        for table in dataset.tables:
            file.write(f"\n{_create(table)};\n{_copy(table)};\n")
            file.writelines(_lines(table))
            file.write("\\.\n")
        file.write("\nCOMMIT;\n")
        file.writelines(f"-- {line};\n" for table in dataset.tables for line in _indexes(table))


def load(dataset: Dataset, address: str) -> None:
    """Put the tables into the database at `address` (a libpq connection string); all of them or none.

    Raises MissingExtraError, SinkError: what the server refuses, as a table that is there already.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("writing to a database needs psycopg: pip install 'unspool[pgvector]'") from error
    statements = [(table, _create(table)) for table in dataset.tables]
    try:
        with psycopg.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(_EXTENSION)
            for table, create in statements:
                cursor.execute(create)
                with cursor.copy(_copy(table)) as copy:
                    for line in _lines(table):
                        copy.write(line)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SinkError(f"the database says: {reason[0][:300]}; nothing was written") from error


def _create(table: ExportTable) -> str:
    columns = [f'"{field.name}" {_type(field.type)}' for field in table.schema]
    key = next((name for name in _KEYS if name in table.schema.names), None)
    columns += [f'PRIMARY KEY ("{key}")'] if key else []
    return f'CREATE TABLE "{table.name}" (\n  ' + ",\n  ".join(columns) + "\n)"


def _copy(table: ExportTable) -> str:
    names = ", ".join(f'"{name}"' for name in table.schema.names)
    return f'COPY "{table.name}" ({names}) FROM STDIN'


def _indexes(table: ExportTable) -> Iterator[str]:
    """What makes searching fast once the rows are there; it takes long, so it is left to whoever wants it."""
    for field in table.schema:
        if 0 < (vector_size(field.type) or 0) <= _LONGEST_INDEXED:
            kind = _type(field.type).partition("(")[0]
            yield f'CREATE INDEX ON "{table.name}" USING hnsw ("{field.name}" {kind}_cosine_ops)'
        elif pa.types.is_fixed_size_binary(field.type):
            yield f'CREATE INDEX ON "{table.name}" USING hnsw ("{field.name}" bit_hamming_ops)'


def _type(kind: pa.DataType) -> str:
    size = vector_size(kind)
    if size is not None:
        if size > _LONGEST_HALFVEC:
            raise SinkError(
                f"pgvector holds up to 16,000 dimensions, these vectors have {size:,}; shorten them: --dims"
            )
        return f"vector({size})" if size <= _LONGEST_VECTOR else f"halfvec({size})"
    if pa.types.is_fixed_size_binary(kind):
        return f"bit({8 * kind.byte_width})"
    if pa.types.is_integer(kind):
        return "bigint" if kind.bit_width > 32 else "integer"
    if pa.types.is_floating(kind):
        return "double precision" if kind == pa.float64() else "real"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "text" if pa.types.is_string(kind) else "jsonb"


def _lines(table: ExportTable) -> Iterator[str]:
    """The rows in the text format of COPY."""
    for batch in table.batches():
        for row in plain_rows(batch):
            yield "\t".join(map(_cell, row.values())) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, BitText):
        return f"x{value}"
    if isinstance(value, list | dict):
        value = json.dumps(_without_nul(value), ensure_ascii=False)
    return value if isinstance(value, JsonText) else str(value).translate(_ESCAPES)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(one) for key, one in value.items()}
    return [_without_nul(one) for one in value] if isinstance(value, list) else value
