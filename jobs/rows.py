"""Rows of the tables of a finished run, for what is shown of it. Knows nothing of what the columns mean."""

from __future__ import annotations

from typing import Any

from jobs.run_directory import RunDirectory


def rows_of(run: RunDirectory, table: str, where: Any = None, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """A table's rows in the order of the output; none if the run has no such table.

    `where` is a pyarrow expression over its columns; `columns` are those wanted, null for all.
    """
    import pyarrow.dataset as ds

    folder = run.output / table
    if not folder.is_dir():
        return []
    found = ds.dataset(folder, format="parquet").to_table(columns=columns, filter=where)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
