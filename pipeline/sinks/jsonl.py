"""A folder of JSON Lines files, `TABLE.jsonl` each: a row a line, vectors as arrays, metadata as an object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.exported import Dataset, JsonText, SinkOptions, plain_rows

SUFFIX: Final = ".jsonl"
OPTIONS: Final = frozenset[str]()


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the folder. Raises OSError."""
    target.mkdir()
    for table in dataset.tables:
        with (target / f"{table.name}.jsonl").open("x", encoding="utf-8", newline="\n") as file:
            for batch in table.batches():
                file.writelines(f"{_line(row)}\n" for row in plain_rows(batch))


def _line(row: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {_value(value)}" for name, value in row.items()) + "}"


def _value(value: Any) -> str:
    return value if isinstance(value, JsonText) else json.dumps(value, ensure_ascii=False)
