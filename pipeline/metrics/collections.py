"""Ranks the documents of a test collection by words, by vectors and by both, with the code that searches use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.evals import Row, Table, demand, read_jsonl
from pipeline.in_memory import TextDocument, read
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.ranking import ndcg
from pipeline.retrieval.bm25 import Index
from pipeline.retrieval.fusion import best, weighted_mean
from pipeline.retrieval.terms import terms_of
from pipeline.segments import SplitOptions
from rwkv_runtime.engine import Engine
from rwkv_runtime.model import Model

DEPTH: Final = 10
OPTIONS: Final = SplitOptions(window=512, max_chars=2000)
WORDS, VECTORS, BOTH = "BM25", "vectors", "hybrid"
_LIMITED_CORPUS: Final = 40


def evaluate(name: str, corpus: Path, queries: Path, model: Model, limit: int | None) -> Table:
    """nDCG@10 over the queries that have relevant documents. With a limit: so many queries, forty times documents."""
    documents = list(read_jsonl(corpus, None if limit is None else _LIMITED_CORPUS * limit))
    asked = [row for row in read_jsonl(queries, limit) if row["rel"]]
    demand(asked, queries, "queries with relevant documents")
    engine = Engine(model, window=OPTIONS.window, lanes=1)
    gains: dict[str, list[float]] = {WORDS: [], VECTORS: [], BOTH: []}
    index, found = Index(), []
    for row in documents:
        text = f"{row['title'] or ''}\n\n{row['text']}"
        index.add(terms_of("en")(text))
        found.append(sentence_vectors(engine, text))
    for row in asked:
        vector = vectors.isolated(engine, [row["query"]])[0]
        words = index.scores(terms_of("en")(row["query"]))
        near = np.array([closeness(one, vector) for one in found])
        for system, scores in ranked(words, near).items():
            order = [documents[place]["id"] for place in best(scores, DEPTH)]
            gains[system].append(100 * ndcg(order, _ids(row), DEPTH))
    rows = tuple(Row(system, _metrics(values, gains)) for system, values in gains.items())
    data = f"{len(documents):,} documents, {len(asked)} queries"
    return Table(name, data, rows, ("over both: nDCG@10 less that of the better of BM25 and vectors",))


def ranked(words: NDArray[np.float64], near: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The scores [n] of each system."""
    return {WORDS: words, VECTORS: near, BOTH: weighted_mean([words, near], [0.5, 0.5])}


def sentence_vectors(engine: Engine, text: str) -> NDArray[np.float32]:
    """Unit vectors [n, dimensions] of the sentences of a text, read once from its beginning."""
    found = [part.vectors for part in read(TextDocument(text), engine, OPTIONS)]
    return np.concatenate(found) if found else np.zeros((0, engine.pooler.dimensions), np.float32)


def closeness(sentences: NDArray[np.float32], vector: NDArray[np.float32]) -> float:
    """How near a text is to a query: its nearest sentence and its mean together."""
    if not len(sentences):
        return 0.0
    mean = sentences.mean(axis=0)
    cosine = float(mean @ vector) / max(float(np.linalg.norm(mean)), 1e-9)
    return float((sentences @ vector).max()) + cosine


def _ids(row: Mapping[str, Any]) -> set[Any]:
    return set(row["rel"])


def _metrics(values: Sequence[float], gains: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    single = max((gains[WORDS], gains[VECTORS]), key=lambda one: sum(one))
    return {"nDCG@10": estimate(values), "over both": paired_difference(values, single)}
