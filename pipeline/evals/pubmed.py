"""Summaries of scientific papers against their abstracts (100 papers of PubMed, 200 words)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.evals import Table, demand, read_jsonl
from pipeline.metrics.summarizing import Item, compare

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "pubmed"
NEEDS: Final = ("labelled/pubmed-100.jsonl",)

_WORDS: Final = 200


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """ROUGE of each system. The sentences are those of the data set."""
    papers = read_jsonl(folder / NEEDS[0], limit)
    items = [Item(tuple(paper["text"]), "", _WORDS, ("\n".join(paper["summary"]),)) for paper in papers]
    demand(items, folder / NEEDS[0], "papers")
    return compare(NAME, f"PubMed, {len(items)} papers, {_WORDS} words", items)
