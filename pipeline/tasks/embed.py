"""Vectors of sentences, sections, windows or documents: one row each, its spans, its text, its vector.

Sentences become rows of the table `sentences`, all other units rows of `vectors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import tables
from pipeline.segments import Sentence
from pipeline.tasks import Emit, Ending, Moment, Options, Steps
from pipeline.units import SPAN, Extent, Found, Unit, UnitVector, Want

TYPE: Final = "embed"
WINDOW_TOKENS: Final = 512
BOTH: Final = "contextual+isolated"
"""A pooling that puts two vectors behind each other, so that a cosine is the mean of the cosines of the two."""


@dataclass(frozen=True)
class Embed:
    """`dims` keeps that many leading dimensions of each vector, scaled back to unit length; None keeps all.

    `dtype` is how they are stored: float32, float16, int8, which is 127 times each number, rounded, or binary, a bit a
    dimension. `surprise` fills the column `nll`: the mean of -ln p over a sentence's tokens. `pooling` "span" takes a
    unit's vector off the stream; "isolated", "eol", "echo" and "multi-eos" read each unit by itself, from the initial
    state, so its vector depends on model and text alone; "contextual+isolated" has both. A window has `tokens` tokens.
    """

    name: str
    dims: int | None = None
    dtype: str = "float32"
    surprise: bool = False
    pooling: str = SPAN
    unit: Unit = "sentence"
    tokens: int = WINDOW_TOKENS

    @property
    def wants_vectors(self) -> bool:
        """Sentences on the stream are there without a kind of their own."""
        return self.unit == "sentence" and self.pooling in (SPAN, BOTH)

    @property
    def wants(self) -> tuple[Want, ...]:
        tokens = self.tokens if self.unit == "window" else None
        poolings = (SPAN, "isolated") if self.pooling == BOTH else (self.pooling,)
        return tuple(
            Want(self.unit, pooling, tokens) for pooling in poolings if (self.unit, pooling) != ("sentence", SPAN)
        )

    @property
    def wants_surprise(self) -> bool:
        return self.surprise

    def visit(self, moment: Moment) -> Steps:
        if self.unit != "sentence":
            yield from self._emitted(moment.ref.doc_id, moment.units)
        elif moment.segment.sentences and (found := self._of_sentences(moment)) is not None:
            nll = moment.surprise if self.surprise else None
            stored = tables.stored_vectors(found, self.dtype)
            rows = sentence_rows(moment.ref.doc_id, moment.segment.sentences, stored, nll, found.shape[1], self.dtype)
            yield Emit("sentences", rows)
        return moment.memory

    def finish(self, ending: Ending) -> Steps:
        if self.unit != "sentence":
            yield from self._emitted(ending.ref.doc_id, ending.units)
        return ending.memory

    def _of_sentences(self, moment: Moment) -> NDArray[np.float32] | None:
        """Vectors [n, dimensions] of the segment's sentences, None if they were not made."""
        alone = [np.stack([one.vector for one in moment.units.get(want, ())]) for want in self.wants]
        parts = ([moment.vectors] if self.wants_vectors else []) + alone
        return None if any(part is None for part in parts) else joined(cast("list[Any]", parts), self.dims)

    def _emitted(self, doc_id: str, found: Found) -> Steps:
        parts = [found.get(want, ()) for want in self.wants]
        if parts[0]:
            vectors = joined([np.stack([one.vector for one in part]) for part in parts], self.dims)
            yield Emit("vectors", self._rows(doc_id, parts[0], vectors))
        return {}

    def _rows(self, doc_id: str, units: Sequence[UnitVector], vectors: NDArray[np.float32]) -> pa.Table:
        schema = tables.vectors(vectors.shape[1], self.dtype)
        rows = [self._row(doc_id, one.extent) for one in units]
        columns = [
            tables.stored_vectors(vectors, self.dtype)
            if name == "embedding"
            else pa.array([row[name] for row in rows], schema.field(name).type)
            for name in schema.names
        ]
        return pa.Table.from_arrays(columns, schema=schema)

    def _row(self, doc_id: str, extent: Extent) -> dict[str, object]:
        """A row but its vector."""
        named: dict[str, object] = {
            "id": f"{doc_id}#{self.name}#{self.unit}{extent.index:06d}",
            "doc_id": doc_id,
            "task": self.name,
            "unit": self.unit,
            "sentence_id": sentence_id(doc_id, extent.first_sentence),
        }
        if self.unit == "document":
            named |= {"section": None}
        return {**vars(extent), **named}


def make(options: Options) -> Embed:
    pooling = options.get("pooling") or SPAN
    return Embed(
        options["name"],
        options.get("dims"),
        options.get("dtype", "float32"),
        bool(options.get("surprise", False)),
        SPAN if pooling == "auto" else pooling,
        options.get("unit", "sentence"),
        options.get("tokens") or WINDOW_TOKENS,
    )


def sentence_id(doc_id: str, index: int) -> str:
    return f"{doc_id}#s{index:07d}"


def shortened(vectors: NDArray[np.float32], dims: int | None) -> NDArray[np.float32]:
    """The first `dims` dimensions of vectors [n, dimensions], each scaled to unit length."""
    if dims is None:
        return vectors
    head = vectors[:, :dims]
    length = np.maximum(np.linalg.norm(head, axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray(head / length, dtype=np.float32)


def joined(parts: Sequence[NDArray[np.float32]], dims: int | None) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of one or more kinds, each shortened, behind each other and of length 1 again."""
    short = [shortened(part, dims) for part in parts]
    if len(short) == 1:
        return short[0]
    return np.asarray(np.concatenate(short, axis=1) / np.float32(np.sqrt(len(short))), np.float32)


def sentence_rows(
    doc_id: str,
    sentences: tuple[Sentence, ...],
    vectors: pa.Array,
    nll: NDArray[np.float32] | None,
    dimensions: int,
    dtype: str,
) -> pa.Table:
    """Rows of the `sentences` table. Where `nll` [n] is NaN or was not asked for, the column is null."""
    schema = tables.sentences(dimensions, dtype)
    columns: dict[str, object] = {
        "id": [sentence_id(doc_id, sentence.index) for sentence in sentences],
        "doc_id": [doc_id] * len(sentences),
        "nll": pa.nulls(len(sentences), pa.float32()) if nll is None else pa.array(nll, from_pandas=True),
        "embedding": vectors,
    }
    for field in schema.names:
        if field not in columns:
            columns[field] = [getattr(sentence, field) for sentence in sentences]
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, schema.field(name).type)
        for name, value in ((name, columns[name]) for name in schema.names)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
