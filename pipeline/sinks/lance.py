"""A folder of Lance datasets, `TABLE.lance` each; vectors are fixed-size lists, ready for an index. Needs pylance."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.errors import MissingExtraError, SinkError
from pipeline.exported import Dataset, SinkOptions

SUFFIX: Final = ".lance"
OPTIONS: Final = frozenset[str]()


def write(dataset: Dataset, target: Path, options: SinkOptions) -> None:
    """Make the folder, maps as lists of {key, value}. Raises MissingExtraError, SinkError, OSError."""
    try:
        import lance
    except ImportError as error:
        raise MissingExtraError("Lance datasets need pylance: pip install 'unspool[lance]'") from error
    target.mkdir()
    for table in dataset.tables:
        pairs = table.with_pairs()
        place = str(target / f"{table.name}.lance")
        try:
            lance.write_dataset(pairs.reader(), place, schema=pairs.schema, mode="create")
        except (RuntimeError, ValueError) as error:
            raise SinkError(f"Lance says: {' '.join(str(error).split())[:300]}") from error
