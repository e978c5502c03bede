"""Finding documents: Cranfield's queries over its abstracts, by words, by vectors and by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.evals import Table
from pipeline.metrics.collections import evaluate

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cranfield"
NEEDS: Final = ("labelled/cranfield-corpus.jsonl", "labelled/cranfield-queries.jsonl")


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """nDCG@10 of each system."""
    return evaluate(NAME, folder / NEEDS[0], folder / NEEDS[1], model, limit)
