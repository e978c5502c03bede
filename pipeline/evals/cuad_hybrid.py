"""Finding clauses by a description alone: what the vectors of sentences add to its words, in contracts of CUAD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline import vectors
from pipeline.evals import Table, read_jsonl
from pipeline.evals.cuad_passages import Hits, Passages, in_order, placed, questions
from pipeline.in_memory import TextDocument, read
from pipeline.metrics.collections import BOTH, OPTIONS, ranked
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cuad-hybrid"
NEEDS: Final = ("labelled/cuad.jsonl.xz",)

_PLACED: Final = "hybrid, and where it is expected"


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """hit@1, 5 and 10 of each system, and what it has more than BM25 at 5."""
    wanted, hits, count = questions(), Hits({}), 0
    engine = Engine(model, window=OPTIONS.window, lanes=1)
    asked = dict(zip(wanted, vectors.isolated(engine, list(wanted.values())), strict=True))
    for contract in read_jsonl(folder / NEEDS[0], limit):
        parts = list(read(TextDocument(contract["text"]), engine, OPTIONS))
        passages = Passages.of(contract, [sentence for part in parts for sentence in part.sentences])
        found = np.concatenate([part.vectors for part in parts])
        count += 1
        for category, right in passages.right.items():
            near = np.maximum.reduceat((found @ asked[category]).astype(np.float64), passages.firsts)
            systems = ranked(passages.words(wanted[category]), near)
            systems[_PLACED] = placed(systems[BOTH], category)
            hits.add({system: in_order(scores) for system, scores in systems.items()}, right)
    return hits.table(NAME, folder / NEEDS[0], count)
