"""The tables that users get: names, columns, and how they are written to Parquet.

Knows nothing of documents or tasks. Spans are half-open. Bytes and characters count into the decoded
document text (UTF-8 bytes, Unicode code points), tokens into its token stream.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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


def sentences(dimensions: int, dtype: str = "float32") -> pa.Schema:
    """The sentences table for vectors of that many dimensions, as one of `VECTOR_NUMBERS`."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("doc_id", pa.string()),
            ("index", pa.int32()),
            ("text", pa.string()),
            ("byte_start", pa.int64()),
            ("byte_end", pa.int64()),
            ("char_start", pa.int64()),
            ("char_end", pa.int64()),
            ("token_start", pa.int64()),
            ("token_end", pa.int64()),
            ("page", pa.int32()),
            ("section", pa.string()),
            ("nll", pa.float32()),
            ("is_final", pa.bool_()),
            ("embedding", pa.list_(VECTOR_NUMBERS[dtype], dimensions)),
        ]
    )


def unit_vectors(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers of the `embedding` column as those of vectors of length 1, whichever way they are stored."""
    found = numbers.astype(np.float32, copy=False)
    return found / np.float32(INT8_SCALE) if numbers.dtype == np.int8 else found
