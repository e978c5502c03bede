"""A DuckDB database file, a table each: vectors are FLOAT[D] arrays, metadata a MAP. Needs duckdb."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.errors import MissingExtraError, SinkError
from pipeline.exported import Dataset, SinkOptions

SUFFIX: Final = ".duckdb"
OPTIONS: Final = frozenset[str]()


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the file. Raises MissingExtraError, SinkError (as when the disk is full)."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("a DuckDB file needs duckdb: pip install 'unspool[duckdb]'") from error
    try:
        # Unasked, it takes most of the machine's memory.
        with duckdb.connect(str(target), config={"threads": "1", "memory_limit": "512MB"}) as database:
            for table in dataset.tables:
                database.register("incoming", table.reader())
                database.execute(f'CREATE TABLE "{table.name}" AS SELECT * FROM incoming')
                database.unregister("incoming")
    except duckdb.Error as error:
        raise SinkError(f"DuckDB says: {' '.join(str(error).split())[:300]}") from error
