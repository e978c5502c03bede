"""Asking what a text answers and what it does not: is an answer given, and is it the right one.

Medical answers of MedQuAD, several put together as a text, asked the questions of these and of others that are left
out, of the same diseases too; contracts of CUAD, asked for clauses that they have and have not; and facts put into
WikiText-2, asked for them and for facts like them. The peer answers always, with the best sentence by BM25.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.answers.ask import Answer, Reading, ask
from pipeline.answers.lines import Line, lines_of_document
from pipeline.answers.search import search
from pipeline.evals import Row, Table, read_jsonl
from pipeline.evals.cuad_passages import questions
from pipeline.in_memory import TextDocument
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.ranking import calibration_error
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "ask"
NEEDS: Final = ("labelled/medquad-qa.jsonl.xz", "labelled/cuad.jsonl.xz", "labelled/wikitext2-valid.txt")

_TEXTS: Final = {"MedQuAD": 12, "CUAD": 12, "facts": 20}
_DISEASES: Final = 5
_LEFT_OUT: Final = 2
_CLAUSES: Final = 5
_LONGEST: Final = 60_000
_SIZES: Final = (3_000, 12_000, 40_000)
_OF: Final = re.compile(
    r"(?:what (?:is|are) \(are\)|what causes|who is at risk for|how to (?:diagnose|prevent)|what is the outlook for|"
    r"what are the (?:symptoms|treatments|complications|stages|genetic changes) (?:of|for|related to)|"
    r"how many people are affected by|what research \(or clinical trials\) is being done for) (.+?)[ ?]*$",
    re.IGNORECASE,
)
Span = tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """A question and the spans of the text that answer it; none if it does not."""

    question: str
    spans: tuple[Span, ...]


Item = tuple[str, tuple[Asked, ...]]


@dataclass(frozen=True)
class Said:
    """What came of a question: could it be answered, was it, rightly, and how sure the answer was."""

    answerable: bool
    answered: bool
    right: bool
    confidence: float


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Of each set: wrong answers where there is none, questions left open that have one, answers that are right."""
    engine = Engine(model, window=512, lanes=1)
    draw = random.Random(0)
    sets: Mapping[str, Iterator[Item]] = {
        "MedQuAD": _medical(list(read_jsonl(folder / NEEDS[0])), draw),
        "CUAD": _contracts(read_jsonl(folder / NEEDS[1]), draw),
        "facts": _facts((folder / NEEDS[2]).read_text("utf-8"), draw),
    }
    rows, ours, count = [], [], 0
    for name, items in sets.items():
        kept: dict[str, list[Said]] = {"unspool": [], "BM25, always": []}
        for _, (text, asked) in zip(range(min(limit or 99, _TEXTS[name])), items, strict=False):
            for system, said in _said(text, asked, engine).items():
                kept[system] += said
        ours += kept["unspool"]
        count += len(kept["unspool"])
        rows += [Row(f"{name}: {system}", _metrics(said)) for system, said in kept.items()]
    error = calibration_error([one.confidence for one in ours], [one.right for one in ours])
    notes = (
        "false: of questions without an answer; missed: of those with one; right: of the answers given",
        f"unspool: expected calibration error {error:.3f} over {count} questions",
    )
    return Table(NAME, f"{count} questions", tuple(rows), notes)


def _said(text: str, asked: Sequence[Asked], engine: Engine) -> dict[str, list[Said]]:
    document = TextDocument(text)
    lines = list(lines_of_document(document, engine.model.tokenizer))
    languages = {document.ref.doc_id: "en"}
    found: dict[str, list[Said]] = {"unspool": [], "BM25, always": []}
    for one in asked:
        answer = ask(lines, one.question, Reading(engine, {}), languages)
        found["unspool"].append(_judged(answer, one.spans))
        [hit] = search(lines, one.question, None, 1, languages)
        right = _touches(hit.line, one.spans)
        found["BM25, always"].append(Said(bool(one.spans), True, right, 1.0))
    return found


def _judged(answer: Answer, spans: Sequence[Span]) -> Said:
    quote = max(answer.passages, key=lambda passage: passage.confidence).quote
    return Said(bool(spans), answer.quote is not None, _touches(quote, spans), answer.confidence)


def _touches(line: Line, spans: Sequence[Span]) -> bool:
    return any(line.char_start < end and line.char_end > start for start, end in spans)


def _metrics(said: Sequence[Said]) -> dict[str, Any]:
    return {
        "false": estimate([100.0 * one.answered for one in said if not one.answerable]),
        "missed": estimate([100.0 * (not one.answered) for one in said if one.answerable]),
        "right": estimate([100.0 * one.right for one in said if one.answered]),
    }


def _medical(rows: Sequence[Mapping[str, Any]], draw: random.Random) -> Iterator[Item]:
    """Texts of answers about five diseases; one question of each is left out, and all of two other diseases."""
    known: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        of = _OF.match(row["query"])
        if of and row["answer"] not in known[of[1].lower()].values():
            known[of[1].lower()][row["query"]] = row["answer"]
    diseases = sorted(name for name, answers in known.items() if len(answers) > 2)
    draw.shuffle(diseases)
    for first in range(0, len(diseases) - _DISEASES - _LEFT_OUT + 1, _DISEASES + _LEFT_OUT):
        inside = diseases[first : first + _DISEASES]
        outside = diseases[first + _DISEASES : first + _DISEASES + _LEFT_OUT]
        yield _medical_text([known[name] for name in inside], [known[name] for name in outside], draw)


def _medical_text(
    inside: Sequence[Mapping[str, str]], outside: Sequence[Mapping[str, str]], draw: random.Random
) -> Item:
    asked: list[tuple[str, str]] = []
    parts: list[str] = []
    for answers in inside:
        questions_of = sorted(answers)
        draw.shuffle(questions_of)
        left_out, there, *others = questions_of
        asked += [(left_out, ""), (there, answers[there])]
        parts += [answers[question] for question in (there, *others)]
    asked += [(sorted(answers)[0], "") for answers in outside]
    draw.shuffle(parts)
    text = "\n\n".join(parts)
    spans = [((text.index(answer), text.index(answer) + len(answer)),) if answer else () for _, answer in asked]
    return text, tuple(Asked(question, span) for (question, _), span in zip(asked, spans, strict=True))


def _contracts(contracts: Iterator[Mapping[str, Any]], draw: random.Random) -> Iterator[Item]:
    """Contracts that are not too long, each asked for five clauses that it has and five that it has not."""
    wording = {category: text.partition(". ")[2] for category, text in questions().items()}
    for contract in contracts:
        if len(contract["text"]) > _LONGEST:
            continue
        marked = {
            label["category"]: tuple((span["start"], span["end"]) for span in label["spans"])
            for label in contract["labels"]
            if label["spans"]
        }
        has = sorted(category for category in wording if category in marked)
        lacks = sorted(category for category in wording if category not in marked)
        chosen = [
            *draw.sample(has, min(_CLAUSES, len(has))),
            *draw.sample(lacks, min(_CLAUSES, len(lacks))),
        ]
        yield contract["text"], tuple(Asked(wording[one], marked.get(one, ())) for one in chosen)


def _facts(text: str, draw: random.Random) -> Iterator[Item]:
    """Texts with a fact in it, asked for it, for one of somebody else, and for something of which there is nothing."""
    things, people = ("brass key", "silver compass", "red ledger"), ("Ines Grantham", "Dario Okonkwo", "Milo Vance")
    while True:
        (thing, other), (who, nobody) = draw.sample(things, 2), draw.sample(people, 2)
        place = draw.choice(("Fennwick", "Ashcombe", "Duskmoor"))
        size = min(draw.choice(_SIZES), len(text))
        begin = draw.randrange(len(text) - size + 1)
        hay = text[begin : begin + size]
        at = hay.rfind("\n", 0, draw.randrange(1, size)) + 1
        fact = f"The {thing} of {who} is kept in locker {draw.randint(100, 999)} at {place} station.\n"
        asked = (
            Asked(f"In which locker at {place} station is the {thing} of {who} kept?", ((at, at + len(fact)),)),
            Asked(f"In which locker is the {other} of {nobody} kept?", ()),
            Asked("Who signed the register of the harbour in that year?", ()),
        )
        yield hay[:at] + fact + hay[at:], asked
