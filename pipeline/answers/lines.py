"""Sentences to search in, out of the tables of a run or straight out of a document, in the order of the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import tables
from pipeline.documents import Document
from pipeline.segments import Segmenter, SplitOptions, Streams

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_COLUMNS = ("id", "doc_id", "text", "char_start", "char_end", "page", "section", "embedding")
_BATCH = 8192
WINDOW = 512


@dataclass(frozen=True)
class Line:
    """A sentence, or another unit and how it begins, with its place; its unit vector [dimensions] if one is stored."""

    sentence_id: str
    doc_id: str
    text: str
    char_start: int
    char_end: int
    page: int | None
    section: str | None
    vector: NDArray[np.float32] | None = None


def lines_of_table(rows: ds.Dataset, doc_id: str | None = None, task: str | None = None) -> Iterator[Line]:
    """The rows of `sentences`, of one document or of all; or those that a task made in `vectors`, each as one line."""
    import pyarrow.compute as pc

    wanted = None if doc_id is None else pc.field("doc_id") == doc_id
    if task is not None:
        wanted = pc.field("task") == task
    dimensions = tables.dimensions_of(rows.schema)
    for batch in rows.to_batches(columns=list(_COLUMNS), filter=wanted, batch_size=_BATCH):
        if not batch.num_rows:
            continue
        vectors = tables.unit_vectors(batch.column("embedding"), dimensions)
        for row, vector in zip(batch.drop_columns(["embedding"]).to_pylist(), vectors, strict=True):
            yield Line(
                row["id"],
                row["doc_id"],
                row["text"],
                row["char_start"],
                row["char_end"],
                row["page"],
                row["section"],
                vector,
            )


def lines_of_document(document: Document, tokenizer: Streams, max_chars: int = 2000) -> Iterator[Line]:
    """The sentences of a document, without vectors: nothing is read by the model."""
    doc_id = document.ref.doc_id
    for segment in Segmenter(document, tokenizer, SplitOptions(WINDOW, max_chars)):
        for one in segment.sentences:
            name = f"{doc_id}#s{one.index:07d}"
            yield Line(name, doc_id, one.text, one.char_start, one.char_end, one.page, one.section)
