"""What choosing sentences in one pass and bounded memory costs: the worth of the choice against that of greedy choice
over all sentences of a book, which must keep them all. Both are weighed by counts over the whole book.

Centrality is what a sample of sentences votes for, so the worth is given twice: with the sample that the stream has
drawn, and with another one, which greedy choice then knows and the stream does not. Peers are the first and evenly
spaced sentences. No model is needed.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.answers.lines import lines_of_document
from pipeline.evals import EvalError, Row, Table, read_text
from pipeline.in_memory import TextDocument
from pipeline.metrics.bootstrap import estimate
from pipeline.query import Query
from pipeline.retrieval.terms import terms_of
from pipeline.salience import Traits, signals
from pipeline.selection import SAMPLE_SIZE, Budget, Candidate, Lens, Selection, Weighing, counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rwkv_runtime.model import Model

NAME: Final = "selector"
NEEDS: Final = ("books/en",)

_SENTENCES: Final = 10
_LONGEST: Final = 4_000
"""Sentences of a book: weighing all of them at once takes a table of them by all words."""


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Per cent of the greedy choice's worth that each choice reaches, one book an item."""
    paths = sorted((folder / NEEDS[0]).glob("*.txt"))[:limit]
    if not paths:
        raise EvalError(f"{folder / NEEDS[0]}: has no .txt files; take them from their source again")
    found: dict[str, dict[str, list[float]]] = {}
    for path in paths:
        document = TextDocument(read_text(path))
        lines = islice(lines_of_document(document, model.tokenizer), _LONGEST)
        for measure, shares in _shares([line.text for line in lines]).items():
            for name, share in shares.items():
                found.setdefault(name, {}).setdefault(measure, []).append(100 * share)
    rows = tuple(
        Row(name, {measure: estimate(values) for measure, values in own.items()}) for name, own in found.items()
    )
    words = f"{len(paths)} English books, {_SENTENCES} sentences of the first {_LONGEST:,}"
    return Table(NAME, words, rows, ("per cent of the worth of greedy choice over all sentences",))


def _shares(texts: list[str]) -> Mapping[str, Mapping[str, float]]:
    terms = terms_of("en")
    lens = Lens(terms, Query.of("", terms), "0")
    candidates = [Candidate(place, 0, len(text), text) for place, text in enumerate(texts)]
    budget, last = Budget(_SENTENCES), len(texts) - 1
    stream = Selection.empty(lens.query).seen(candidates, lens)
    chosen = {
        "unspool": [choice.candidate.index for choice in stream.choose(budget, lens)],
        "lead": list(range(min(_SENTENCES, len(texts)))),
        "evenly spaced": sorted({round(place) for place in np.linspace(0, last, _SENTENCES)}),
    }
    others = sorted({round(place) for place in np.linspace(0, last, SAMPLE_SIZE)})
    frequency, names = counted(texts, terms)
    nothing = np.zeros(len(texts), np.float32)
    traits = [Traits.of(text, terms) for text in texts]
    found = {}
    for measure, voters in (("same voters", stream.voters), ("other voters", others)):
        weighed = signals(traits, range(len(texts)), voters, len(texts), frequency, names)
        whole = Weighing(tuple(candidates), weighed, nothing, nothing)
        best = whole.value([choice.candidate.index for choice in whole.taken(budget)])
        found[measure] = {name: whole.value(places) / best for name, places in chosen.items()}
    return found
