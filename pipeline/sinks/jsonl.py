"""A folder of JSON Lines files, `TABLE.jsonl` each: a row a line, vectors as arrays, metadata as an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pipeline.exported import Dataset, SinkOptions, plain_rows

SUFFIX: Final = ".jsonl"
OPTIONS: Final = frozenset[str]()


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the folder. Raises OSError."""
    target.mkdir()
    for table in dataset.tables:
        with (target / f"{table.name}.jsonl").open("x", encoding="utf-8", newline="\n") as file:
            for batch in table.batches():
                file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in plain_rows(batch))
