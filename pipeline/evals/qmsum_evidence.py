"""Finding the evidence: which five turns of a meeting a question about it is answered by (QMSum).

The last rows are what `ask` ranks passages by: the words of all five turns and of the best of them, and the nearest
sentence's vector; neighbours of a chosen passage stand back. BM25 is shown with that too, to tell where a gain is from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.evals import Row, Table, demand, read_jsonl
from pipeline.in_memory import TextDocument, read
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.collections import OPTIONS, WORDS, ranked
from pipeline.metrics.ranking import hit
from pipeline.retrieval.bm25 import Index
from pipeline.retrieval.fusion import best, best_apart, of_passages
from pipeline.retrieval.terms import terms_of
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "qmsum-evidence"
NEEDS: Final = ("labelled/qmsum.jsonl",)

_TURNS: Final = 5
_DEPTHS: Final = (1, 5)
_APART: Final = "BM25, neighbours apart"
_WORDS: Final = "whole and parts by words, neighbours apart"
_OURS: Final = "whole, parts and vectors, neighbours apart"


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """hit@1 and hit@5 of each system, and what it has more than BM25 at 5."""
    engine = Engine(model, window=OPTIONS.window, lanes=1)
    hits: dict[str, list[list[float]]] = {}
    for meeting in read_jsonl(folder / NEEDS[0], limit):
        _measure(meeting, engine, hits)
    demand(hits, folder / NEEDS[0], "questions with their evidence")
    rows = tuple(Row(system, _metrics(found, hits[WORDS])) for system, found in hits.items())
    count = len(hits[WORDS])
    return Table(NAME, f"QMSum test, {count} questions, windows of {_TURNS} turns", rows, (_NOTE,))


_NOTE: Final = "over BM25: hit@5 less that of BM25 on the same questions, in points"


def _measure(meeting: Mapping[str, Any], engine: Engine, hits: dict[str, list[list[float]]]) -> None:
    turns = meeting["text"].split("\n")
    starts = np.cumsum([0, *(len(turn) + 1 for turn in turns)])
    terms, index, parts = terms_of("en"), Index(), Index()
    for first in range(0, len(turns), _TURNS):
        index.add(terms(" ".join(turns[first : first + _TURNS])))
    for turn in turns:
        parts.add(terms(turn))
    sentences = [one for part in read(TextDocument(meeting["text"]), engine, OPTIONS) for one in _placed(part)]
    if not sentences:
        return
    middle = np.array([place for place, _ in sentences])
    windows = (np.searchsorted(starts, middle, side="right") - 1) // _TURNS
    found = np.stack([vector for _, vector in sentences])
    for query in meeting["specific"]:
        right = _right(query, len(index))
        if right:
            vector = vectors.isolated(engine, [query["query"]])[0]
            near = np.full(len(index), -1.0)
            np.maximum.at(near, windows, (found @ vector).astype(np.float64))
            asked = terms(query["query"])
            words = index.scores(asked)
            part = np.maximum.reduceat(parts.scores(asked), range(0, len(turns), _TURNS))
            for system, order in _orders(words, part, near).items():
                hits.setdefault(system, []).append([100 * hit(order, right, depth) for depth in _DEPTHS])


def _orders(words: NDArray[np.float64], parts: NDArray[np.float64], near: NDArray[np.float64]) -> dict[str, list[int]]:
    """The best windows of each system."""
    depth = max(_DEPTHS)
    orders = {system: best(scores, depth) for system, scores in ranked(words, near).items()}
    orders[_APART] = best_apart(words, depth)
    orders[_WORDS] = best_apart(of_passages(words, parts, None), depth)
    orders[_OURS] = best_apart(of_passages(words, parts, near), depth)
    return orders


def _placed(part: Any) -> list[tuple[int, NDArray[np.float32]]]:
    """The middle of each sentence, in characters, with its vector."""
    middles = [(one.char_start + one.char_end) // 2 for one in part.sentences]
    return list(zip(middles, part.vectors, strict=True))


def _right(query: Mapping[str, Any], windows: int) -> set[int]:
    spans = [(int(first), int(last)) for first, last in query["relevant_text_span"]]
    return {
        window
        for window in range(windows)
        if any(first < (window + 1) * _TURNS and last >= window * _TURNS for first, last in spans)
    }


def _metrics(found: list[list[float]], words: list[list[float]]) -> dict[str, Any]:
    figures = {f"hit@{depth}": estimate([one[place] for one in found]) for place, depth in enumerate(_DEPTHS)}
    return figures | {"over BM25": paired_difference([one[-1] for one in found], [one[-1] for one in words])}
