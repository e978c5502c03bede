"""Finding clauses: in which passages of a contract each of CUAD's categories stands, asked for in a sentence each.

The sentences follow CUAD's descriptions of its categories (The Atticus Project, CC BY 4.0). The schema `clauses` has
cues besides, words of clauses in contracts of the train split; it is ranked by the code of the task `extract`. Only
categories that a contract has are counted: retrieval cannot say that one is missing. Nothing is read by a model; what
vectors add is measured by `cuad-hybrid`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evals import Row, Table, demand, read_jsonl
from pipeline.fields.field import Field
from pipeline.fields.shipped import fields_of
from pipeline.in_memory import TextDocument, segments
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.clauses import ranked_passages
from pipeline.metrics.collections import OPTIONS, WORDS
from pipeline.metrics.ranking import hit
from pipeline.retrieval.bm25 import Index
from pipeline.retrieval.fusion import best, from_the_start
from pipeline.retrieval.passages import runs
from pipeline.retrieval.terms import terms_of
from pipeline.segments import Sentence

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cuad-passages"
NEEDS: Final = ("labelled/cuad.jsonl.xz",)

_QUESTIONS: Final = Path(__file__).with_name("cuad_questions.json")
_COVER: Final = Path(__file__).with_name("cuad_cover.json")
"""Fields for what stands on the first page, which the schema `contract` finds by rules."""

_DEPTHS: Final = (1, 5, 10)
AT_START: Final = ("Document Name", "Parties", "Agreement Date", "Effective Date")
_PLACED: Final = "BM25, and where it is expected"
_CUED: Final = "schema `clauses`, by its words"

Orders = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Passages:
    """A contract cut into passages: their first sentences, an index of their words, and the passages that each
    category stands in."""

    sentences: tuple[Sentence, ...]
    firsts: tuple[int, ...]
    index: Index
    right: Mapping[str, frozenset[int]]

    @classmethod
    def of(cls, contract: Mapping[str, Any], sentences: Sequence[Sentence]) -> Passages:
        cut, terms, index = list(runs(sentences)), terms_of("en"), Index()
        for one in cut:
            index.add([word for sentence in sentences[one.first : one.last] for word in terms(sentence.text)])
        spans = [(sentences[one.first].char_start, sentences[one.last - 1].char_end) for one in cut]
        right = {label["category"]: _touched(label["spans"], spans) for label in contract["labels"]}
        firsts = tuple(one.first for one in cut)
        return cls(tuple(sentences), firsts, index, {name: found for name, found in right.items() if found})

    def words(self, question: str) -> NDArray[np.float64]:
        """BM25 of each passage [n]."""
        return self.index.scores(terms_of("en")(question))


@dataclass(frozen=True)
class Hits:
    """For each system, 100 or 0 at each depth for every category of every contract."""

    found: dict[str, list[list[float]]]

    def add(self, orders: Orders, right: frozenset[int]) -> None:
        for system, order in orders.items():
            self.found.setdefault(system, []).append([100 * hit(order, right, depth) for depth in _DEPTHS])

    def table(self, name: str, path: Path, contracts: int) -> Table:
        demand(self.found, path, "contracts with labelled categories")
        words = self.found[WORDS]
        rows = tuple(Row(system, _metrics(found, words)) for system, found in self.found.items())
        data = f"CUAD, {contracts} contracts, {len(words):,} categories that they have, passages of 600 characters"
        note = "over BM25: hit@5 less that of BM25 on the same questions, in points"
        return Table(name, data, rows, (note, f"expected at the start: {', '.join(AT_START)}"))


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """hit@1, 5 and 10 of each system, and what it has more than BM25 at 5."""
    wanted, hits, count = questions(), Hits({}), 0
    fields = (*fields_of("clauses"), *map(Field.of, json.loads(_COVER.read_text("utf-8"))["fields"]))
    for contract in read_jsonl(folder / NEEDS[0], limit):
        read = segments(TextDocument(contract["text"]), model.tokenizer, OPTIONS)
        passages = Passages.of(contract, [one for part in read for one in part.sentences])
        count += 1
        for category, orders in _orders(passages, wanted, fields):
            hits.add(orders, passages.right[category])
    return hits.table(NAME, folder / NEEDS[0], count)


def questions() -> dict[str, str]:
    """What each category is asked for with: its name and, behind a full stop, its description."""
    found: dict[str, str] = json.loads(_QUESTIONS.read_text("utf-8"))
    return found


def placed(scores: NDArray[np.float64], category: str) -> NDArray[np.float64]:
    """Scores [n] of passages, raised at the start for what is expected there."""
    return from_the_start(scores) if category in AT_START else scores


def in_order(scores: NDArray[np.float64]) -> list[int]:
    """The best passages, as many as are looked at."""
    return best(scores, max(_DEPTHS))


def _orders(passages: Passages, wanted: Mapping[str, str], fields: Sequence[Field]) -> Iterator[tuple[str, Orders]]:
    cued = ranked_passages(passages.sentences, fields)
    by_category = {field.description.partition(". ")[0]: cued[field.name] for field in fields}
    for category in passages.right:
        words = passages.words(wanted[category])
        yield (
            category,
            {
                WORDS: in_order(words),
                _PLACED: in_order(placed(words, category)),
                _CUED: [passage.number for passage, _ in by_category[category]],
            },
        )


def _touched(marked: Sequence[Mapping[str, int]], spans: Sequence[tuple[int, int]]) -> frozenset[int]:
    wanted = [(span["start"], span["end"]) for span in marked]
    return frozenset(
        place for place, (start, end) in enumerate(spans) if any(first < end and last > start for first, last in wanted)
    )


def _metrics(found: list[list[float]], words: list[list[float]]) -> dict[str, Any]:
    figures = {f"hit@{depth}": estimate([one[place] for one in found]) for place, depth in enumerate(_DEPTHS)}
    return figures | {"over BM25": paired_difference([one[1] for one in found], [one[1] for one in words])}
