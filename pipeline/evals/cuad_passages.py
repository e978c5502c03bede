"""Finding clauses: in which passages of a contract each of CUAD's categories stands, asked for in a sentence each.

The sentences follow CUAD's descriptions of its categories (The Atticus Project, CC BY 4.0). The schema `clauses` has
cues besides, words of clauses in contracts of the train split; it is ranked by the code of the task `extract`. Only
categories that a contract has are counted: retrieval cannot say that one is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.evals import Row, Table, read_jsonl
from pipeline.fields.field import Field
from pipeline.fields.shipped import fields_of
from pipeline.in_memory import TextDocument, read
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.clauses import ranked_passages
from pipeline.metrics.collections import BOTH, OPTIONS, WORDS, ranked
from pipeline.metrics.ranking import hit
from pipeline.retrieval.bm25 import Index
from pipeline.retrieval.fusion import best, from_the_start
from pipeline.retrieval.passages import runs
from pipeline.retrieval.terms import terms_of
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cuad-passages"
NEEDS: Final = ("labelled/cuad.jsonl.xz",)

_QUESTIONS: Final = Path(__file__).with_name("cuad_questions.json")
_DEPTHS: Final = (1, 5, 10)
_AT_START: Final = ("Document Name", "Parties", "Agreement Date", "Effective Date")
_PLACED: Final = "hybrid, and where it is expected"
_CUED: Final = "schema `clauses`, by its words"
_COVER: Final = Path(__file__).with_name("cuad_cover.json")
"""Fields for what stands on the first page, which the schema `contract` finds by rules."""


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """hit@1, 5 and 10 of each system, and what it has more than BM25 at 5."""
    questions: dict[str, str] = json.loads(_QUESTIONS.read_text("utf-8"))
    engine = Engine(model, window=OPTIONS.window, lanes=1)
    asked = dict(zip(questions, vectors.isolated(engine, list(questions.values())), strict=True))
    hits: dict[str, list[list[float]]] = {}
    contracts = list(read_jsonl(folder / NEEDS[0], limit))
    cover = json.loads(_COVER.read_text("utf-8"))["fields"]
    fields = (*fields_of("clauses"), *map(Field.of, cover))
    for contract in contracts:
        _measure(contract, engine, questions, asked, fields, hits)
    rows = tuple(Row(system, _metrics(found, hits[WORDS])) for system, found in hits.items())
    data = (
        f"CUAD, {len(contracts)} contracts, {len(hits[WORDS]):,} categories that they have, passages of 600 characters"
    )
    return Table(NAME, data, rows, ("over BM25: hit@5 less that of BM25 on the same questions, in points", _STARTS))


_STARTS: Final = f"expected at the start: {', '.join(_AT_START)}, as in the schema `contract`"


def _measure(
    contract: Mapping[str, Any],
    engine: Engine,
    questions: Mapping[str, str],
    asked: Mapping[str, NDArray[np.float32]],
    fields: Sequence[Field],
    hits: dict[str, list[list[float]]],
) -> None:
    parts = list(read(TextDocument(contract["text"]), engine, OPTIONS))
    sentences = [sentence for part in parts for sentence in part.sentences]
    found = np.concatenate([part.vectors for part in parts])
    passages = list(runs(sentences))
    terms, index = terms_of("en"), Index()
    for passage in passages:
        index.add([word for one in sentences[passage.first : passage.last] for word in terms(one.text)])
    spans = [(sentences[one.first].char_start, sentences[one.last - 1].char_end) for one in passages]
    firsts = [one.first for one in passages]
    cued = ranked_passages(sentences, fields)
    by_category = {field.description.partition(". ")[0]: cued[field.name] for field in fields}
    for label in contract["labels"]:
        right = _right(label, spans)
        if right:
            near = np.maximum.reduceat((found @ asked[label["category"]]).astype(np.float64), firsts)
            systems = ranked(index.scores(terms(questions[label["category"]])), near)
            start = label["category"] in _AT_START
            systems[_PLACED] = from_the_start(systems[BOTH]) if start else systems[BOTH]
            for system, scores in systems.items():
                order = best(scores, max(_DEPTHS))
                hits.setdefault(system, []).append([100 * hit(order, right, depth) for depth in _DEPTHS])
            order = [passage.number for passage, _ in by_category[label["category"]]]
            hits.setdefault(_CUED, []).append([100 * hit(order, right, depth) for depth in _DEPTHS])


def _right(label: Mapping[str, Any], spans: list[tuple[int, int]]) -> set[int]:
    wanted = [(span["start"], span["end"]) for span in label["spans"]]
    return {
        place for place, (start, end) in enumerate(spans) if any(first < end and last > start for first, last in wanted)
    }


def _metrics(found: list[list[float]], words: list[list[float]]) -> dict[str, Any]:
    figures = {f"hit@{depth}": estimate([one[place] for one in found]) for place, depth in enumerate(_DEPTHS)}
    return figures | {"over BM25": paired_difference([one[1] for one in found], [one[1] for one in words])}
