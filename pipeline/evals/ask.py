"""Asking what a text answers and what it does not: is an answer given, and is it the right one.

Medical answers of MedQuAD, several put together as a text, asked the questions of these and of others that are left
out, of the same diseases too; contracts of CUAD, asked for clauses that they have and have not, by CUAD's descriptions
and in the plain words of people; facts put into WikiText-2; meetings of QMSum and stories of SQuALITY, asked questions
on others of their kind; lines `key: value` of the World Factbook, some of them taken out. The peer answers always, with
the best sentence by BM25. The last rows are those of all sets, by what a question asks for. Where the model has a span
reader, it reads the passages, and a row says what words alone come to; else nothing is read by it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.answers.ask import ABSENT, ANSWERED, Reading, answered, likeliest
from pipeline.answers.lines import Line, lines_of_document
from pipeline.answers.material import Material
from pipeline.answers.questions import Question
from pipeline.answers.search import search
from pipeline.evals import Row, Table, read_jsonl, read_text
from pipeline.evals.cuad_passages import questions
from pipeline.in_memory import TextDocument
from pipeline.metrics.asked import HELD_OUT, Asked, Item, Span, contracts, countries, facts, medical, meetings, stories
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.ranking import calibration_error
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "ask"
NEEDS: Final = (
    "labelled/medquad-qa.jsonl.xz",
    "labelled/cuad.jsonl.xz",
    "labelled/wikitext2-valid.txt",
    "labelled/qmsum.jsonl",
    "labelled/squality.jsonl",
    "labelled/factbook-fields.jsonl",
)

_PLAIN: Final = Path(__file__).with_name("cuad_plain.json")
_WINDOW: Final = 512
_TEXTS: Final = {
    "MedQuAD": 12,
    "CUAD": 12,
    "facts": 20,
    "CUAD, plain words": 12,
    "QMSum": 12,
    "SQuALITY": 12,
    "Factbook": 25,
}
_OURS: Final = "unspool"
_WORDS: Final = "by words alone"
_PEER: Final = "BM25, always"
_NOTES: Final = (
    "false: of questions without an answer, those answered; missed: of those with one, those not answered",
    "denied: of those with one, those said not to be in the text",
    "right: of the answers given; quote: of those to questions that have one",
    "SQuALITY: nobody marked what answers, so of its answers only those to questions without one are judged",
)


@dataclass(frozen=True)
class Said:
    """What came of a question: could it be answered, was it, was that denied, rightly, and how sure the answer was.

    `right` is None where nobody marked what answers.
    """

    kind: str
    answerable: bool
    answered: bool
    denied: bool
    right: bool | None
    confidence: float


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Of each set: wrong answers where there is none, questions left open that have one, answers that are right."""
    rows: list[Row] = []
    ours: list[Said] = []
    for name, items in _sets(folder, random.Random(0)).items():
        kept: dict[str, list[Said]] = {_OURS: [], _PEER: []}
        for text, asked in islice(items, min(limit or 99, _TEXTS[name])):
            for system, said in _said(text, asked, model).items():
                kept.setdefault(system, []).extend(said)
        ours += kept[_OURS]
        rows += [Row(f"{name}: {system}", _metrics(said)) for system, said in kept.items()]
    for kind in sorted({one.kind for one in ours}):
        rows.append(Row(f"{kind}: {_OURS}", _metrics([one for one in ours if one.kind == kind])))
    marked = [one for one in ours if one.right is not None]
    error = calibration_error([one.confidence for one in marked], [bool(one.right) for one in marked])
    note = f"unspool: expected calibration error {error:.3f} over {len(marked)} questions"
    return Table(NAME, f"{len(ours)} questions", tuple(rows), (*_NOTES, note))


def _sets(folder: Path, draw: random.Random) -> Mapping[str, Iterator[Item]]:
    medquad, cuad, wikitext, qmsum, squality, factbook = (folder / name for name in NEEDS)
    described = {category: text.partition(". ")[2] for category, text in questions().items()}
    plain = json.loads(_PLAIN.read_text("utf-8"))
    return {
        "MedQuAD": medical(list(read_jsonl(medquad)), draw),
        "CUAD": contracts(read_jsonl(cuad), described, draw),
        "facts": facts(read_text(wikitext), HELD_OUT, draw),
        "CUAD, plain words": contracts(read_jsonl(cuad), plain, draw),
        "QMSum": meetings(list(read_jsonl(qmsum)), draw),
        "SQuALITY": stories(list(read_jsonl(squality)), draw),
        "Factbook": countries(read_jsonl(factbook), draw),
    }


def _said(text: str, asked: Sequence[Asked], model: Model) -> dict[str, list[Said]]:
    document = TextDocument(text)
    lines = list(lines_of_document(document, model.tokenizer))
    languages = {document.ref.doc_id: "en"}
    material = Material.of(lines, languages)
    reading = Reading(Engine(model, window=_WINDOW, lanes=1), {})
    found: dict[str, list[Said]] = {_OURS: [], _PEER: []}
    for one in asked:
        kind = Question.of(one.question, material.find_terms).kind
        quote, sure, outcome = likeliest(material, one.question)
        right = _touches(quote, one.spans)
        by_words = Said(kind, one.answerable, outcome == ANSWERED, outcome == ABSENT, right, sure)
        found[_OURS].append(_read(material, one, kind, reading) if model.span_reader else by_words)
        if model.span_reader:
            found.setdefault(_WORDS, []).append(by_words)
        [hit] = search(lines, one.question, None, 1, languages)
        found[_PEER].append(Said(kind, one.answerable, True, False, _touches(hit.line, one.spans), 1.0))
    return found


def _read(material: Material, one: Asked, kind: str, reading: Reading) -> Said:
    """What is said with the model's span reader, which sees the passages."""
    said = answered(material, one.question, reading)
    right = _touches(said.passages[0].quote, one.spans)
    return Said(kind, one.answerable, said.outcome == ANSWERED, said.outcome == ABSENT, right, said.confidence)


def _touches(line: Line, spans: Sequence[Span] | None) -> bool | None:
    if spans is None:
        return None
    return any(line.char_start < end and line.char_end > start for start, end in spans)


def _metrics(said: Sequence[Said]) -> dict[str, Any]:
    judged = [one for one in said if one.answered and one.right is not None]
    return {
        "false": estimate([100.0 * one.answered for one in said if not one.answerable]),
        "missed": estimate([100.0 * (not one.answered) for one in said if one.answerable]),
        "denied": estimate([100.0 * one.denied for one in said if one.answerable]),
        "right": estimate([100.0 * bool(one.right) for one in judged]),
        "quote": estimate([100.0 * bool(one.right) for one in judged if one.answerable]),
    }
