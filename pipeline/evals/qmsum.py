"""Answers to questions on meetings against those written by people (QMSum, specific queries, 70 words)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.evals import Table, demand, read_jsonl
from pipeline.metrics.summarizing import Item, compare, sentences_of

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "qmsum"
NEEDS: Final = ("labelled/qmsum.jsonl",)

_WORDS: Final = 70


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """ROUGE of each system."""
    items = []
    for meeting in read_jsonl(folder / NEEDS[0], limit):
        sentences = sentences_of(meeting["text"])
        items += [Item(sentences, asked["query"], _WORDS, (asked["answer"],)) for asked in meeting["specific"]]
    demand(items, folder / NEEDS[0], "queries")
    return compare(NAME, f"QMSum, {len(items)} specific queries, {_WORDS} words", items)
