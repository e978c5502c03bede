"""Quoting the clauses of a contract, or saying that there are none: the schema `clauses` on the categories of CUAD.

A quote is right if it touches what the annotators marked. Precision is that of quotes; recall counts the categories of
a contract of which a right quote is shown. hit@5, in points, looks at the five best passages whether they are shown or
not. Nothing is read by a model. The schema's words come from the train split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evals import Row, Table, demand, read_jsonl
from pipeline.fields.field import Field
from pipeline.fields.shipped import fields_of
from pipeline.in_memory import TextDocument, segments
from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.clauses import ranked_passages
from pipeline.metrics.collections import OPTIONS
from pipeline.metrics.ranking import calibration_error
from pipeline.retrieval.passages import runs
from pipeline.tasks.extract import PASSAGES, likelihood

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cuad-clauses"
NEEDS: Final = ("labelled/cuad.jsonl.xz",)

_WORDS: Final = "BM25 of the descriptions, at its best threshold"
_OURS: Final = "schema `clauses`"


@dataclass(frozen=True)
class Quoted:
    """A quote that may be shown: of which contract and category, its share of the words, its confidence, if right."""

    contract: int
    category: str
    share: float
    confidence: float
    right: bool


@dataclass(frozen=True)
class Found:
    """All quotes of a system, the categories that contracts have [(contract, category)], and those of them of which
    one of the five best passages has a part."""

    quotes: tuple[Quoted, ...]
    wanted: frozenset[tuple[int, str]]
    hits: frozenset[tuple[int, str]]
    cells: int

    def above(self, threshold: float, share: bool) -> Found:
        """Those quotes that are shown at a threshold of the share of words, or of the confidence."""
        kept = (one for one in self.quotes if (one.share if share else one.confidence) >= threshold)
        return replace(self, quotes=tuple(kept))


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """F1, precision and recall, and the share of categories that a contract has not and is said to have."""
    contracts = list(read_jsonl(folder / NEEDS[0], limit))
    fields = fields_of("clauses")
    described = tuple(replace(field, cues=()) for field in fields)
    peer, ours = (_quotes(contracts, given, model) for given in (described, fields))
    demand(peer.quotes, folder / NEEDS[0], "passages")
    shares = np.array([one.share for one in peer.quotes])
    tried = [peer.above(float(share), share=True) for share in np.quantile(shares, np.linspace(0, 1, 50))]
    best = max(tried, key=lambda one: _figures(one, len(contracts))[0])
    shown = ours.above(fields[0].min_confidence, share=False)
    rows = tuple(Row(name, _metrics(found, len(contracts))) for name, found in ((_WORDS, best), (_OURS, shown)))
    error = calibration_error([one.confidence for one in shown.quotes], [one.right for one in shown.quotes])
    notes = (f"{_OURS}: expected calibration error {error:.3f} over {len(shown.quotes)} quotes shown",)
    data = f"CUAD, {len(contracts)} contracts, {len(fields)} categories, {len(ours.wanted):,} of them there"
    return Table(NAME, data, rows, notes)


def _quotes(contracts: Sequence[Mapping[str, Any]], fields: Sequence[Field], model: Model) -> Found:
    quotes: list[Quoted] = []
    wanted: set[tuple[int, str]] = set()
    hits: set[tuple[int, str]] = set()
    for place, contract in enumerate(contracts):
        read = segments(TextDocument(contract["text"]), model.tokenizer, OPTIONS)
        sentences = [one for part in read for one in part.sentences]
        places = [(sentences[one.first].char_start, sentences[one.last - 1].char_end) for one in runs(sentences)]
        found = ranked_passages(sentences, fields)
        marked = {label["category"]: label["spans"] for label in contract["labels"]}
        for field in fields:
            spans = marked.get(field.description.partition(". ")[0], [])
            if spans:
                wanted.add((place, field.name))
            for passage, share in found[field.name][:PASSAGES]:
                if _touches(*places[passage.number], spans):
                    hits.add((place, field.name))
                right = _touches(passage.quote.char_start, passage.quote.char_end, spans)
                quotes.append(Quoted(place, field.name, share, likelihood(field, passage, share), right))
    return Found(tuple(quotes), frozenset(wanted), frozenset(hits), len(contracts) * len(fields))


def _touches(start: int, end: int, spans: Sequence[Mapping[str, int]]) -> bool:
    return any(span["start"] < end and span["end"] > start for span in spans)


def _metrics(found: Found, contracts: int) -> dict[str, Any]:
    names = ("F1", "precision", "recall", "said wrongly", "hit@5")
    table = _counts(found, contracts)
    return {
        name: estimate_of(lambda items, at=at: _of_counts(table[items])[at], contracts)  # type: ignore[misc]
        for at, name in enumerate(names)
    }


def _figures(found: Found, contracts: int) -> tuple[float, ...]:
    return _of_counts(_counts(found, contracts))


def _counts(found: Found, contracts: int) -> NDArray[np.float64]:
    """For each contract: quotes, right ones, categories there, those found, not there, those quoted, and hits."""
    table = np.zeros((contracts, 7))
    for one in found.quotes:
        table[one.contract, :2] += (1, one.right)
    for contract, _ in found.wanted:
        table[contract, 2] += 1
    for contract, _ in {(one.contract, one.category) for one in found.quotes if one.right}:
        table[contract, 3] += 1
    table[:, 4] = found.cells / max(contracts, 1) - table[:, 2]
    for contract, category in {(one.contract, one.category) for one in found.quotes}:
        table[contract, 5] += (contract, category) not in found.wanted
    for contract, _ in found.hits:
        table[contract, 6] += 1
    return table


def _of_counts(table: NDArray[np.float64]) -> tuple[float, ...]:
    quotes, right, wanted, found, absent, quoted, hits = table.sum(axis=0)
    precision, recall = right / max(quotes, 1), found / max(wanted, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    wrongly, hit = quoted / max(absent, 1), 100 * hits / max(wanted, 1)
    return float(f1), float(precision), float(recall), float(wrongly), float(hit)
