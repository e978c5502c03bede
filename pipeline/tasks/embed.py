"""Sentence vectors: one row a sentence, its text verbatim, its spans, and the vector read off the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import tables
from pipeline.segments import Sentence
from pipeline.tasks import Emit, Ending, Moment, Options, Steps

TYPE: Final = "embed"


@dataclass(frozen=True)
class Embed:
    """`dims` keeps that many leading dimensions of each vector, scaled back to unit length; None keeps all.

    `dtype` is how they are stored: float32, float16, or int8, which is 127 times each number, rounded. `surprise`
    fills the column `nll`: the mean of -ln p over a sentence's tokens. `pooling` "isolated" reads each sentence by
    itself, from the initial state, so its vector depends on model and sentence alone; "span" takes it off the stream.
    """

    name: str
    dims: int | None = None
    dtype: str = "float32"
    surprise: bool = False
    pooling: str = "span"

    @property
    def wants_vectors(self) -> bool:
        return not self.wants_isolated

    @property
    def wants_isolated(self) -> bool:
        return self.pooling == "isolated"

    @property
    def wants_surprise(self) -> bool:
        return self.surprise

    def visit(self, moment: Moment) -> Steps:
        found = moment.isolated if self.wants_isolated else moment.vectors
        if found is not None and moment.segment.sentences:
            vectors = stored(shortened(found, self.dims), self.dtype)
            nll = moment.surprise if self.surprise else None
            yield Emit("sentences", sentence_rows(moment.ref.doc_id, moment.segment.sentences, vectors, nll))
        return moment.memory

    def finish(self, ending: Ending) -> Steps:
        yield from ()
        return ending.memory


def make(options: Options) -> Embed:
    return Embed(
        options["name"],
        options.get("dims"),
        options.get("dtype", "float32"),
        bool(options.get("surprise", False)),
        "isolated" if options.get("pooling") == "isolated" else "span",
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


def stored(vectors: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Unit vectors [n, dimensions] as they are stored."""
    if dtype == "int8":
        return np.rint(vectors * tables.INT8_SCALE).astype(np.int8)
    return vectors.astype(dtype, copy=False)


def sentence_rows(
    doc_id: str, sentences: tuple[Sentence, ...], vectors: NDArray[Any], nll: NDArray[np.float32] | None = None
) -> pa.Table:
    """Rows of the `sentences` table. Where `nll` [n] is NaN or was not asked for, the column is null."""
    dimensions = vectors.shape[1]
    schema = tables.sentences(dimensions, vectors.dtype.name)
    columns: dict[str, object] = {
        "id": [sentence_id(doc_id, sentence.index) for sentence in sentences],
        "doc_id": [doc_id] * len(sentences),
        "nll": pa.nulls(len(sentences), pa.float32()) if nll is None else pa.array(nll, from_pandas=True),
        "embedding": pa.FixedSizeListArray.from_arrays(_owned_by_arrow(vectors), dimensions),
    }
    for field in schema.names:
        if field not in columns:
            columns[field] = [getattr(sentence, field) for sentence in sentences]
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, schema.field(name).type)
        for name, value in ((name, columns[name]) for name in schema.names)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _owned_by_arrow(vectors: NDArray[Any]) -> pa.Array:
    """All numbers of `vectors` in memory of Arrow's own allocator.

    Rows wait for the next checkpoint; left where numpy made them, each would keep a hole open among the temporaries
    of its window, and the process would grow by as much as those take.
    """
    buffer = pa.allocate_buffer(vectors.nbytes)
    np.frombuffer(buffer, vectors.dtype)[:] = vectors.reshape(-1)
    return pa.Array.from_buffers(tables.VECTOR_NUMBERS[vectors.dtype.name], vectors.size, [None, buffer])
