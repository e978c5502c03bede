"""A folder that `datasets.load_dataset(folder, table)` opens: Parquet and a card that says which files are which table.

Differs from a run's `output/` in what the `datasets` library cannot read: maps are lists of {key, value}, and tables
without rows are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from pipeline.exported import Dataset, ExportTable, SinkOptions, vector_size

SUFFIX: Final = ".hf"
OPTIONS: Final = frozenset[str]()
_GROUP_ROWS: Final = 8_192


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the folder: `TABLE/part-*.parquet` for each table with rows, and README.md. Raises OSError."""
    target.mkdir()
    tables = [table.with_pairs() for table in dataset.tables if table.rows]
    for table in tables:
        (target / table.name).mkdir()
        for file in table.files:
            _write_file(table, file, target / table.name / file.name)
    (target / "README.md").write_text(_card(dataset.title, tables), "utf-8")


def _write_file(table: ExportTable, source: Path, path: Path) -> None:
    vectors = [f"{field.name}.list.element" for field in table.schema if vector_size(field.type)]
    with pq.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        use_dictionary=[name for name in ("doc_id", "section", "status", "task") if name in table.schema.names],
        column_encoding=dict.fromkeys(vectors, "BYTE_STREAM_SPLIT") or None,
        write_page_index=True,
    ) as writer:
        for batch in table.batches_of(source, _GROUP_ROWS):
            writer.write_batch(batch)


def _card(title: str, tables: Sequence[ExportTable]) -> str:
    lines = ["---", f"pretty_name: {json.dumps(title)}", "tags:", "- unspool"]
    lines += ["configs:"] if tables else []
    for table in tables:
        lines += [f"- config_name: {table.name}", f'  data_files: "{table.name}/*.parquet"']
    lines += ["---", "", f"# {title}", "", "| table | rows |", "|---|---:|"]
    lines += [f"| {table.name} | {table.rows:,} |" for table in tables]
    lines += ["", "Spans are half-open; bytes and characters count into the decoded text of a document.", ""]
    return "\n".join(lines)
