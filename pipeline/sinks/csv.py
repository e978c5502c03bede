"""A folder of CSV files, `TABLE.csv` each, for spreadsheets: lists, maps and vectors are JSON in one cell.

A spreadsheet takes a cell that begins with = + - @, a tab or a carriage return for a formula, and what documents say
comes from anybody: such text gets an apostrophe in front, unless it is asked for raw. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline.exported import Dataset, JsonText, SinkOptions, plain_rows

SUFFIX: Final = ".csv"
OPTIONS: Final = frozenset({"raw"})
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the folder; null is an empty cell. Raises OSError."""
    shown: Callable[[str], str] = str if options.raw else harmless
    target.mkdir()
    for table in dataset.tables:
        with (target / f"{table.name}.csv").open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.schema.names)
            for batch in table.batches():
                writer.writerows([_cell(value, shown) for value in row.values()] for row in plain_rows(batch))


def harmless(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cell(value: Any, shown: Callable[[str], str]) -> Any:
    if isinstance(value, JsonText):
        return value
    if isinstance(value, str):
        return shown(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
