"""Comparing extractive summaries with those that people wrote, at a fixed number of words.

Every system chooses among the same sentences under the same budget and is scored by the same ROUGE. Peers are the
lead, TF-IDF's centroid, LexRank, and BM25 where something is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evals import Row, Table
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.peers import Text, in_order_of, peers
from pipeline.metrics.rouge import KINDS, Rouge
from pipeline.query import Query
from pipeline.retrieval.terms import terms_of
from pipeline.selection import Budget, Candidate, Lens, Selection
from pipeline.sentences import split_passage

_LONGEST_SENTENCE: Final = 2000
_NO_LIMIT: Final = 1000
_OURS: Final = "unspool"


@dataclass(frozen=True)
class Item:
    """Sentences to choose from, what is asked (or nothing), the words to spend, and what people wrote."""

    sentences: tuple[str, ...]
    query: str
    words: int
    references: tuple[str, ...]


def compare(name: str, data: str, items: Sequence[Item]) -> Table:
    """The table of one data set: ROUGE-1 and ROUGE-2, and what they have more than the best peer."""
    rouge, found = Rouge(), [_summaries(item) for item in items]
    scores: dict[str, NDArray[np.float64]] = {}
    for system in found[0]:
        chosen = [" ".join(one[system]) for one in found]
        scores[system] = np.array([rouge.best(text, item.references) for text, item in zip(chosen, items, strict=True)])
    others = [system for system in scores if system != _OURS]
    best = [max(others, key=lambda peer: float(scores[peer][:, kind].mean())) for kind in range(len(KINDS))]
    rows = []
    for system, values in scores.items():
        metrics = {KINDS[kind]: estimate(values[:, kind]) for kind in range(len(KINDS))}
        for kind, peer in enumerate(best):
            metrics[f"{KINDS[kind]} less best peer"] = paired_difference(values[:, kind], scores[peer][:, kind])
        rows.append(Row(system, metrics))
    return Table(name, data, tuple(rows), (f"best peers: {', '.join(best)}", "F1 x 100, best over the references"))


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of an English text, as a reading of it would cut them; paragraphs end at line ends."""
    pieces = (split_passage(line, "en", _LONGEST_SENTENCE)[0] for line in text.splitlines() if line.strip())
    return tuple(piece.text for found in pieces for piece in found)


def _summaries(item: Item) -> dict[str, list[str]]:
    """What each system chooses, ours first."""
    terms = terms_of("en")
    query = Query.of(item.query, terms)
    lens = Lens(terms, query, "eval")
    selection = Selection.empty(query).seen(
        [Candidate(place, 0, 0, sentence) for place, sentence in enumerate(item.sentences)], lens
    )
    ours = [choice.candidate.text for choice in selection.choose(Budget(_NO_LIMIT, item.words), lens)]
    text = _text(item.sentences)
    asked = terms(item.query)
    return {_OURS: ours} | {
        name: [item.sentences[place] for place in in_order_of(scores, text, item.words, alike)]
        for name, scores, alike in peers(text, asked)
    }


@lru_cache(maxsize=1)
def _text(sentences: tuple[str, ...]) -> Text:
    """Many questions are asked of one text."""
    return Text.of(sentences, terms_of("en"))
