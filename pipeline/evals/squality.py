"""Answers to questions on long stories against four written by people (SQuALITY, dev)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.evals import Table, demand, read_jsonl
from pipeline.metrics.summarizing import Item, compare, sentences_of

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "squality"
NEEDS: Final = ("labelled/squality.jsonl",)

_WORDS_OF_PLOT: Final = 430
_WORDS: Final = 175


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """ROUGE of each system. The first question of each story asks for its plot, and gets a longer answer."""
    items = []
    for story in read_jsonl(folder / NEEDS[0], limit):
        sentences = sentences_of(story["text"])
        for number, question in enumerate(story["questions"]):
            words = _WORDS if number else _WORDS_OF_PLOT
            items.append(Item(sentences, question["q"], words, tuple(question["refs"])))
    demand(items, folder / NEEDS[0], "questions")
    return compare(NAME, f"SQuALITY dev, {len(items)} questions", items)
