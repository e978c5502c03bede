"""Fits the weights by which `unspool ask` is sure of an answer: `pipeline/answers/confidence.json`.

    python -m tests.bench.fit_answers FOLDER [--write]

FOLDER holds train splits: `pairs/qa-medquad.jsonl.xz` (`query`, `positive`), `labelled/` with `cuad`, `qmsum` and
`squality` as `.jsonl.xz`, and `text/` with Zstandard-packed JSON lines (`src`, `text`), of which the World Factbook and
one novel are taken. Each set weighs the same. A logistic function is fitted on sentences, first on all of those of the
passages found, then six times on the four that it holds for the likeliest and the best right one: those are what it
has to tell apart. Last its scale is fitted on the sentence that it chooses for each question. Prints what comes of it;
with `--write` the weights are kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rwkv_runtime
from examples.train_default_model.span_data import train_items
from pipeline.answers.ask import candidates, word_scores
from pipeline.answers.confidence import FILE, VERSION
from pipeline.answers.evidence import FEATURES, Asked, Standing, of_sentence
from pipeline.answers.lines import lines_of_document
from pipeline.answers.material import Material
from pipeline.answers.questions import Question
from pipeline.evals import read_jsonl
from pipeline.in_memory import TextDocument
from pipeline.metrics import asked as sets
from pipeline.metrics.logistic import logistic
from pipeline.metrics.ranking import calibration_error
from rwkv_runtime import tokenizers

Floats = NDArray[np.float64]

TEXTS = 50
ROUNDS = 6
LIKELIEST = 4
MOST_FALSE = 0.20
MOST_DENIED = 0.05


@dataclass(frozen=True)
class Case:
    """A question: of which set, whether it can be answered, the features of its sentences [n, features], which of them
    are right [n], None where nobody knows, and how much it weighs."""

    name: str
    answerable: bool
    features: Floats
    right: NDArray[np.bool_] | None
    weight: float = 1.0


def cases(folder: Path) -> list[Case]:
    """All questions with what speaks for each sentence that may answer."""
    tokenizer = tokenizers.load(Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json")
    found = []
    for name, items in _items(folder, random.Random(1)).items():
        for text, asked in islice(items, TEXTS):
            document = TextDocument(text)
            material = Material.of(lines_of_document(document, tokenizer), {document.ref.doc_id: "en"})
            found += [_case(name, one, material) for one in asked]
    counts = Counter(case.name for case in found)
    return [Case(one.name, one.answerable, one.features, one.right, 200 / counts[one.name]) for one in found]


def _items(folder: Path, draw: random.Random) -> Mapping[str, Iterator[sets.Item]]:
    """Those that span readers are fitted to, and stories."""
    found = dict(train_items(folder, draw))
    countries = found.pop("Factbook")  # the last to draw
    told = sets.stories(list(read_jsonl(folder / "labelled/squality.jsonl.xz")), draw)
    return found | {"SQuALITY": told, "Factbook": countries}


def _case(name: str, one: sets.Asked, material: Material) -> Case:
    asked = Asked.of(Question.of(one.question, material.find_terms), material)
    words, parts = word_scores(asked, material)
    chosen = candidates(words, parts, asked, material)
    standing = Standing.of(chosen, words, asked, material)
    places = [(place, passage) for passage in chosen for place in material.sayings(passage)]
    features = np.stack([of_sentence(place, passage, asked, material, standing) for place, passage in places])
    if one.spans is None:
        return Case(name, one.answerable, features, None)
    lines = [material.lines[place] for place, _ in places]
    right = [any(line.char_start < end and line.char_end > start for start, end in one.spans) for line in lines]
    return Case(name, one.answerable, features, np.array(right))


def fitted(known: Sequence[Case]) -> Floats:
    """The weights [features] that tell right sentences from others, and how often such a one is right."""
    weights = logistic(*_rows(known, [np.arange(len(case.features)) for case in known]))
    for left in reversed(range(ROUNDS)):
        again = logistic(*_rows(known, [_hard(case, weights) for case in known]))
        weights = (weights + again) / 2 if left else again
    chosen = [int(np.argmax(case.features @ weights)) for case in known]
    scores = np.array([case.features[at] @ weights for case, at in zip(known, chosen, strict=True)])
    right = np.array([float(_right(case)[at]) for case, at in zip(known, chosen, strict=True)])
    scale = logistic(np.stack([np.ones(len(scores)), scores], axis=1), right, np.array([one.weight for one in known]))
    return np.asarray(weights * scale[1] + np.eye(1, len(weights))[0] * scale[0], np.float64)


def _right(case: Case) -> NDArray[np.bool_]:
    return np.zeros(len(case.features), bool) if case.right is None else case.right


def _hard(case: Case, weights: Floats) -> NDArray[np.intp]:
    """The sentences held for the likeliest, and the likeliest of the right ones."""
    order = np.argsort(-(case.features @ weights), kind="stable")
    return np.unique(np.concatenate([order[:LIKELIEST], order[_right(case)[order]][:1]]))


def _rows(known: Sequence[Case], places: Sequence[NDArray[np.intp]]) -> tuple[Floats, Floats, Floats]:
    pairs = list(zip(known, places, strict=True))
    features = np.concatenate([case.features[at] for case, at in pairs])
    right = np.concatenate([_right(case)[at] for case, at in pairs]).astype(np.float64)
    weights = np.concatenate([np.full(len(at), LIKELIEST * case.weight / len(at)) for case, at in pairs])
    return features, right, weights


def sureness(known: Sequence[Case], weights: Floats) -> Floats:
    """How sure the best sentence of each question is [questions]."""
    scores = np.array([float((case.features @ weights).max()) for case in known], np.float64)
    return np.asarray(1 / (1 + np.exp(-scores)), np.float64)


def thresholds(known: Sequence[Case], sure: Floats) -> dict[str, float]:
    """`answered`: the least from which on at most MOST_FALSE of the questions without an answer get one, in every set;
    `unsure`: below which MOST_DENIED of those with a marked answer are."""
    names = dict.fromkeys(case.name for case in known)
    absent = [sure[[case.name == name and not case.answerable for case in known]] for name in names]
    there = sure[[case.answerable and case.right is not None for case in known]]
    answered = max(float(np.quantile(one, 1 - MOST_FALSE)) for one in absent)
    return {"answered": round(answered, 3), "unsure": round(float(np.quantile(there, MOST_DENIED)), 3)}


def _told(known: Sequence[Case], weights: Floats, limits: Mapping[str, float]) -> Iterator[str]:
    sure = sureness(known, weights)
    for name in dict.fromkeys(case.name for case in known):
        mine = [at for at, case in enumerate(known) if case.name == name]
        there = [sure[at] for at in mine if known[at].answerable]
        absent = [sure[at] for at in mine if not known[at].answerable]
        false = 100 * float(np.mean(np.array(absent) >= limits["answered"]))
        missed = 100 * float(np.mean(np.array(there) < limits["answered"]))
        denied = 100 * float(np.mean(np.array(there) < limits["unsure"]))
        yield f"{name:14} {len(mine):5} questions  false {false:5.1f}  missed {missed:5.1f}  denied {denied:5.1f}"
    marked = [(one, case) for one, case in zip(sure, known, strict=True) if case.right is not None]
    right = [bool(_right(case)[int(np.argmax(case.features @ weights))]) for _, case in marked]
    yield f"calibration error {calibration_error([float(one) for one, _ in marked], right):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    known = cases(given.folder)
    weights = fitted([case for case in known if case.right is not None])
    limits = thresholds(known, sureness(known, weights))
    rounded = {name: round(float(weight), 4) for name, weight in zip(FEATURES, weights, strict=True)}
    for name, weight in rounded.items():
        sys.stdout.write(f"{name:18}{weight:8.3f}\n")
    sys.stdout.write(f"{limits}\n")
    for line in _told(known, weights, limits):
        sys.stdout.write(f"{line}\n")
    if given.write:
        kept = {"version": VERSION, "questions": len(known), "weights": rounded, "thresholds": limits}
        FILE.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
