"""The dataset card of a run's tables: Markdown with a front matter that tells the `datasets` library what to load.

That library knows neither maps nor tables without rows. A table without rows is no configuration of it, and of a table
with a map the other columns are; everything that reads Parquet itself sees all of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES: Final = {"double": "float64", "float": "float32"}
"""What that library calls Arrow's types, where it has other words."""


def card(title: str, rows: Mapping[str, int], schemas: Mapping[str, pa.Schema], file_list: str) -> str:
    """The text of README.md. `rows` and `schemas` are by table; `file_list` names the file with the hashes."""
    title = " ".join(title.split())
    filled = [name for name in sorted(rows) if rows[name]]
    lines = ["---", f"pretty_name: {json.dumps(title)}", "tags:", "- unspool"]
    lines += [line for part in (_features, _configs) for line in part(filled, schemas)]
    lines += ["---", "", f"# {title}", "", "| table | rows |", "|---|---:|"]
    lines += [f"| {name} | {rows[name]:,} |" for name in sorted(rows)]
    lines += [
        "",
        "Rows are in the order of the documents. Spans are half-open; bytes and characters count into the decoded",
        f"text of a document. Types and units are in `dataset.json`, the sha256 of each file in `{file_list}`.",
        "",
    ]
    return "\n".join(lines)


def _features(tables: list[str], schemas: Mapping[str, pa.Schema]) -> list[str]:
    """The types of those tables that have columns which the library cannot load, without these columns."""
    lines: list[str] = []
    for name in tables:
        known = _loadable(schemas[name])
        if len(known) < len(schemas[name]):
            lines += [f"- config_name: {name}", "  features:"]
            lines += [f"  - name: {column}\n    dtype: {dtype}" for column, dtype in known.items()]
    return ["dataset_info:", *lines] if lines else []


def _configs(tables: list[str], schemas: Mapping[str, pa.Schema]) -> list[str]:
    lines = ["configs:"] if tables else []
    for name in tables:
        lines += [f"- config_name: {name}", f'  data_files: "{name}/part-*.parquet"']
        known = _loadable(schemas[name])
        if len(known) < len(schemas[name]):
            lines += ["  columns:", *(f"  - {column}" for column in known)]
    return lines


def _loadable(schema: pa.Schema) -> dict[str, str]:
    """The columns that are no maps, with the names of their types."""
    import pyarrow as pa

    return {
        field.name: _NAMES.get(str(field.type), str(field.type)) for field in schema if not pa.types.is_map(field.type)
    }
