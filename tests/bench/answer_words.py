"""Finds the words by which answers are known: which words answers have far more often if a question has a word.

    python -m tests.bench.answer_words FOLDER [--write]

FOLDER holds pairs of questions and answers, JSON lines packed as `.xz` with `query` and `positive`: those of MedQuAD
and of CUAD's clauses (train splits). A word's worth is the offer weight of relevance feedback (Robertson, 1990): the
share of answers that have it times the logarithm of its odds in them over its odds in the other answers of that set.
Words that stand in few questions are names of things and left out. Prints the words; with `--write` they become
`pipeline/answers/words.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.answers.questions import Question
from pipeline.answers.related import FILE
from pipeline.evals import read_jsonl
from pipeline.retrieval.terms import terms_of

SETS = ("qa-medquad", "clauses-cuad")
WORDS = 10
LEAST_SHARE = 0.006
LEAST_BESIDE = 2
LEAST_WORTH = 0.3
MOST_CHARS = 1500

Found = dict[str, dict[str, float]]


def words_of(rows: Iterable[Mapping[str, str]]) -> Found:
    """For each word of the questions of one set, the words of their answers with their worth."""
    terms = terms_of("en")
    pairs = [(Question.of(row["query"], terms).terms, set(terms(row["positive"][:MOST_CHARS]))) for row in rows]
    having = Counter(term for _, answer in pairs for term in answer)
    asked: dict[str, list[set[str]]] = defaultdict(list)
    beside: dict[str, set[str]] = defaultdict(set)
    for question, answer in pairs:
        for term in question:
            asked[term].append(answer)
            beside[term].add(" ".join(sorted(set(question) - {term})))
    kept = {
        term: answers
        for term, answers in asked.items()
        if len(answers) >= LEAST_SHARE * len(pairs)
        and len(beside[term]) >= LEAST_BESIDE
        and len(answers) < len(pairs) / 2
    }
    return {term: _best(term, answers, having, len(pairs)) for term, answers in kept.items()}


def _best(asked: str, answers: list[set[str]], having: Counter[str], pairs: int) -> dict[str, float]:
    """The words that answers to questions with a word have, best first."""
    inside = Counter(term for answer in answers for term in answer)
    worths = {
        term: count / len(answers) * _odds(count, len(answers), having[term] - count, pairs - len(answers))
        for term, count in inside.items()
        if term != asked and len(term) > 2 and not term.isdigit() and count >= 3
    }
    chosen = sorted(worths, key=lambda term: (-worths[term], term))[:WORDS]
    return {term: round(worths[term], 2) for term in chosen if worths[term] >= LEAST_WORTH}


def _odds(inside: int, answers: int, outside: int, others: int) -> float:
    """The logarithm of the odds of a word in answers over those in others."""
    return math.log((inside + 0.5) * (others - outside + 0.5) / ((answers - inside + 0.5) * (outside + 0.5)))


def merged(sets: Iterable[Found]) -> Found:
    """The words of several sets; where two have the same, the greater worth."""
    together: Found = defaultdict(dict)
    for found in sets:
        for asked, words in found.items():
            for word, worth in words.items():
                together[asked][word] = max(worth, together[asked].get(word, 0.0))
    return {
        asked: dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS])
        for asked, words in sorted(together.items())
        if words
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = merged(words_of(read_jsonl(given.folder / f"{name}.jsonl.xz")) for name in SETS)
    for asked, words in found.items():
        sys.stdout.write(f"{asked}: {', '.join(words)}\n")
    if given.write:
        lines = [f"  {json.dumps(asked)}: {json.dumps(words)}" for asked, words in found.items()]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
