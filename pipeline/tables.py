"""The tables that users get: names, columns, and how they are written to Parquet.

Knows nothing of documents or tasks. Spans are half-open. Bytes and characters count into the decoded
document text (UTF-8 bytes, Unicode code points), tokens into its token stream.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SPANS: Final = tuple((f"{unit}_{side}", pa.int64()) for unit in ("byte", "char", "token") for side in ("start", "end"))

DOCUMENTS: Final = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source_uri", pa.string()),
        ("source_sha256", pa.string()),
        ("bytes", pa.int64()),
        ("encoding", pa.string()),
        ("decode_errors", pa.int64()),
        ("title", pa.string()),
        ("language", pa.string()),
        ("pages", pa.int32()),
        ("chars", pa.int64()),
        ("tokens", pa.int64()),
        ("tokens_read", pa.int64()),
        ("tokens_fed", pa.int64()),
        ("coverage", pa.float64()),
        ("status", pa.string()),
        ("state_path", pa.string()),
        ("metadata", pa.map_(pa.string(), pa.string())),
    ]
)

SUMMARIES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("task", pa.string()),
        ("level", pa.string()),
        ("index", pa.int32()),
        ("char_start", pa.int64()),
        ("char_end", pa.int64()),
        ("text", pa.string()),
        ("mode", pa.string()),
        (
            "citations",
            pa.list_(pa.struct([("char_start", pa.int64()), ("char_end", pa.int64()), ("sentence_id", pa.string())])),
        ),
        ("finish_reason", pa.string()),
        ("tokens_generated", pa.int32()),
        ("seed", pa.int64()),
        ("reasons", pa.list_(pa.list_(pa.string()))),
    ]
)

EXTRACTIONS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("task", pa.string()),
        ("field", pa.string()),
        ("value", pa.string()),
        ("normalized", pa.string()),
        ("quote", pa.string()),
        ("char_start", pa.int64()),
        ("char_end", pa.int64()),
        ("page", pa.int32()),
        ("sentence_id", pa.string()),
        ("method", pa.string()),
        ("confidence", pa.float32()),
        ("valid", pa.bool_()),
        ("alignment", pa.string()),
    ]
)

CONTEXTS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("token", pa.int64()),
        ("action", pa.string()),
        ("carried", pa.float32()),
        ("fresh", pa.float32()),
        ("magnitude", pa.float32()),
    ]
)
"""Where the state was begun anew or probed: bits a byte of the same tokens behind the carried state and a fresh one."""

FAILURES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("source_uri", pa.string()),
        ("stage", pa.string()),
        ("page", pa.int32()),
        ("byte_offset", pa.int64()),
        ("error_type", pa.string()),
        ("message", pa.string()),
        ("retryable", pa.bool_()),
    ]
)


INT8_SCALE: Final = 127
"""What the numbers of int8 vectors are to be divided by."""
VECTOR_NUMBERS: Final = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
BINARY: Final = "binary"
"""Vectors of one bit a dimension, 1 where it is above 0, the first dimension in the highest bit of the first byte."""


def vector_type(dimensions: int, dtype: str) -> pa.DataType:
    """The type of a column of vectors, as one of `VECTOR_NUMBERS` or `BINARY`."""
    if dtype == BINARY:
        return pa.binary(-(-dimensions // 8))
    return pa.list_(VECTOR_NUMBERS[dtype], dimensions)


def sentences(dimensions: int, dtype: str = "float32") -> pa.Schema:
    """The sentences table for vectors of that many dimensions, stored as `vector_type` says."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("doc_id", pa.string()),
            ("index", pa.int32()),
            ("text", pa.string()),
            *_SPANS,
            ("page", pa.int32()),
            ("section", pa.string()),
            ("nll", pa.float32()),
            ("is_final", pa.bool_()),
            ("embedding", vector_type(dimensions, dtype)),
        ]
    )


def vectors(dimensions: int, dtype: str = "float32") -> pa.Schema:
    """The table of vectors of sections, windows and documents. `text` is how each begins, verbatim."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("doc_id", pa.string()),
            ("task", pa.string()),
            ("unit", pa.string()),
            ("index", pa.int32()),
            ("text", pa.string()),
            ("sentence_id", pa.string()),
            ("sentences", pa.int32()),
            *_SPANS,
            ("page", pa.int32()),
            ("section", pa.string()),
            ("embedding", vector_type(dimensions, dtype)),
        ]
    )


def dimensions_of(schema: pa.Schema) -> int:
    """The dimensions of the vectors of a table, whichever way they are stored."""
    kind = schema.field("embedding").type
    marked = json.loads((schema.metadata or {}).get(b"unspool.embedding", b"{}")).get("dimensions")
    return int(marked) if pa.types.is_fixed_size_binary(kind) and marked else _bits(kind)


def _bits(kind: pa.DataType) -> int:
    return int(kind.byte_width * 8 if pa.types.is_fixed_size_binary(kind) else kind.list_size)


def stored_vectors(vectors: NDArray[np.float32], dtype: str) -> pa.Array:
    """Unit vectors [n, dimensions] as a column of `vector_type`."""
    if dtype == BINARY:
        packed = np.packbits(vectors > 0, axis=1)
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(packed.shape[1]), len(packed), [None, _owned(packed)])
    numbers = np.rint(vectors * INT8_SCALE).astype(np.int8) if dtype == "int8" else vectors.astype(dtype, copy=False)
    flat = pa.Array.from_buffers(VECTOR_NUMBERS[dtype], numbers.size, [None, _owned(numbers)])
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def unit_vectors(column: pa.Array, dimensions: int) -> NDArray[np.float32]:
    """What `stored_vectors` made, as vectors [n, dimensions] of about length 1, whichever way they are stored."""
    if pa.types.is_fixed_size_binary(column.type):
        raw = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(column), -1)
        signs = np.unpackbits(raw, axis=1)[:, :dimensions].astype(np.float32) * 2 - 1
        return np.asarray(signs / np.float32(np.sqrt(dimensions)), np.float32)
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    found = numbers.astype(np.float32, copy=False).reshape(len(column), -1)
    return np.asarray(found / np.float32(INT8_SCALE) if numbers.dtype == np.int8 else found, np.float32)


def _owned(numbers: NDArray[Any]) -> pa.Buffer:
    """All numbers in memory of Arrow's own allocator.

    Rows wait for the next checkpoint; left where numpy made them, each would keep a hole open among the temporaries
    of its window, and the process would grow by as much as those take.
    """
    buffer = pa.allocate_buffer(numbers.nbytes)
    np.frombuffer(buffer, numbers.dtype)[:] = numbers.reshape(-1)
    return buffer
