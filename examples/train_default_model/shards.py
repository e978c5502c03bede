"""Token shards: sentences with the teacher's vectors, in Parquet files small enough to be sent to another machine.

One row is a sentence of a document; rows stand in the order of the text. Vectors are int8, each with the scale that its
unit length implies. Knows nothing of texts or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Tokens = NDArray[np.uint16]

_SCHEMA = pa.schema(
    [
        ("document", pa.int32()),
        ("tokens", pa.list_(pa.uint16())),
        ("is_heading", pa.bool_()),
        ("target", pa.binary()),
        ("salience", pa.float32()),
        ("group_length", pa.uint8()),
        ("group_target", pa.binary()),
    ]
)
COMPRESSION_LEVEL = 19


@dataclass(frozen=True)
class Sentence:
    """One sentence of a document. `target` is None where the teacher was not asked.

    `group_length` sentences from this one on, if any, have the joint vector `group_target`. `salience` is how central
    the sentence is to its document, with mean 0 and deviation 1 over the document, or NaN.
    """

    tokens: Tokens
    is_heading: bool = False
    target: Floats | None = None
    salience: float = float("nan")
    group_length: int = 0
    group_target: Floats | None = None


Document = Sequence[Sentence]


def write_shard(path: Path, documents: Iterable[Document]) -> None:
    """Write documents; the file appears whole or not at all."""
    rows = [
        {
            "document": number,
            "tokens": sentence.tokens.tolist(),
            "is_heading": sentence.is_heading,
            "target": _packed(sentence.target),
            "salience": sentence.salience,
            "group_length": sentence.group_length,
            "group_target": _packed(sentence.group_target),
        }
        for number, document in enumerate(documents)
        for sentence in document
    ]
    temporary = path.with_suffix(".tmp")
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    pq.write_table(table, temporary, compression="zstd", compression_level=COMPRESSION_LEVEL, use_dictionary=False)
    temporary.replace(path)


def read_shard(path: Path) -> Iterator[list[Sentence]]:
    """Stream the documents of a shard."""
    document: list[Sentence] = []
    current = 0
    for row in pq.read_table(path).to_pylist():
        if row["document"] != current and document:
            yield document
            document = []
        current = row["document"]
        document.append(
            Sentence(
                np.array(row["tokens"], np.uint16),
                row["is_heading"],
                _unpacked(row["target"]),
                row["salience"],
                row["group_length"],
                _unpacked(row["group_target"]),
            )
        )
    if document:
        yield document


def _packed(vector: Floats | None) -> bytes | None:
    """127 is the largest component."""
    if vector is None:
        return None
    packed: NDArray[np.int8] = np.rint(vector * (127 / np.abs(vector).max())).astype(np.int8)
    return packed.tobytes()


def _unpacked(packed: bytes | None) -> Floats | None:
    if packed is None:
        return None
    vector = np.frombuffer(packed, np.int8).astype(np.float32)
    unit: Floats = vector / np.linalg.norm(vector)
    return unit
