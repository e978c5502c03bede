"""Parts: rows that have left memory for good, each a Parquet file under a name that nobody else can want.

A part appears whole or not at all, and exists for a reader only once a ledger record or a checkpoint names it.
Knows nothing of which rows belong together.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.durable import Disk, Point, sha256_hex

if TYPE_CHECKING:
    import pyarrow as pa

STATES: Final = "states"
"""The table name of parts that are kept states rather than rows."""


def standing_name(doc_id: str) -> str:
    """The kept state that holds where a document is read on once it has grown, in the form of a checkpoint.

    The parts that stand in front of it in a record hold the rows until there.
    """
    return f"{doc_id}.standing.arrow"


@dataclass(frozen=True)
class Part:
    """A finished file. `path` is relative to the run directory, with slashes; `name` is that of a kept state."""

    path: str
    table: str
    bytes: int
    sha256: str
    rows: int
    name: str | None = None


@dataclass(frozen=True)
class Attempt:
    """Which try at a document this is. It stands in the names of all files of the try, so that tries never meet."""

    doc_id: str
    epoch: int
    attempt: int

    @property
    def mark(self) -> str:
        return f"e{self.epoch}a{self.attempt}"


@dataclass(frozen=True)
class PartWriter:
    """Writes parts of one run."""

    run: Path
    disk: Disk

    def rows(self, attempt: Attempt, rows: pa.Table, table: str, number: int) -> Part:
        """Publish rows of a table; `number` counts the parts of this try. Raises OSError."""
        name = f"{attempt.doc_id}-s{number:05d}-{attempt.mark}-{secrets.token_hex(4)}.parquet"
        return self._publish(table, name, parquet_bytes(rows), rows.num_rows)

    def state(self, attempt: Attempt, data: bytes, name: str) -> Part:
        """Publish a kept state, the bytes of an Arrow file, to be known as states/`name`. Raises OSError."""
        unique = f"{attempt.doc_id}-{attempt.mark}-{secrets.token_hex(4)}.arrow"
        return self._publish(STATES, unique, data, 0, name)

    def _publish(self, table: str, file_name: str, data: bytes, rows: int, name: str | None = None) -> Part:
        path = Path("parts") / table / file_name
        self.disk.reach(Point.PART_BEFORE_WRITE)
        self.disk.make_folder(self.run / path.parent)
        self.disk.publish(self.run / path, data)
        self.disk.reach(Point.PART_AFTER_WRITE)
        return Part(path.as_posix(), table, len(data), sha256_hex(data), rows, name)


def parquet_bytes(rows: pa.Table) -> bytes:
    """A table as a Parquet file with page checksums; vectors split by byte, which zstd packs best."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    vectors = [name for name in rows.schema.names if pa.types.is_fixed_size_list(rows.schema.field(name).type)]
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=False,
        column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in vectors} or None,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())
