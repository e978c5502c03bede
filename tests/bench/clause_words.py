"""Finds the words by which clauses are known, for the schema `clauses`: those that contracts have in a clause of a kind
far more often than elsewhere.

    python -m tests.bench.clause_words CUAD.jsonl.xz [--write]

Each line of the file is a contract with `text` and `labels` (`category`, `spans` with `text`). A word's worth is the
offer weight of relevance feedback (Robertson, 1990): the share of labelled clauses that have it times the logarithm of
its odds in them over its odds in any passage. Words of one or two contracts are names, and left out.
Prints the words of each category; with `--write` they become the cues of the schema's fields.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.evals import read_jsonl
from pipeline.fields import shipped
from pipeline.retrieval.passages import PASSAGE_CHARS
from pipeline.retrieval.terms import STOP_WORDS, terms_of

WORDS = 16
LEAST_CONTRACTS = 3
SCHEMA = "clauses"
_WORD = re.compile(r"[^\W_]+")
_TERMS = terms_of("en")


class Counts:
    """In how many passages, clauses and contracts terms stand, and how people write them."""

    def __init__(self) -> None:
        self.passages = 0
        self.having: Counter[str] = Counter()
        self.clauses: Counter[str] = Counter()
        self.in_clauses: dict[str, Counter[str]] = defaultdict(Counter)
        self.in_contracts: dict[str, Counter[str]] = defaultdict(Counter)
        self.written: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, contract: Mapping[str, Any]) -> None:
        text = contract["text"]
        for start in range(0, len(text), PASSAGE_CHARS):
            self.passages += 1
            self.having.update(set(_TERMS(text[start : start + PASSAGE_CHARS])))
        for label in contract["labels"]:
            together: set[str] = set()
            for span in label["spans"]:
                found = set(_TERMS(span["text"]))
                self.clauses[label["category"]] += 1
                self.in_clauses[label["category"]].update(found)
                together |= found
                self._note_writing(span["text"])
            self.in_contracts[label["category"]].update(together)

    def telling(self, category: str) -> list[str]:
        """The words that tell most of a category, the best first, as they are written most often."""
        worth = {
            term: self._worth(category, term)
            for term, contracts in self.in_contracts[category].items()
            if contracts >= LEAST_CONTRACTS and not term.isdigit()
        }
        best = sorted(worth, key=lambda term: (-worth[term], term))[:WORDS]
        return [self.written[term].most_common(1)[0][0] for term in best if worth[term] > 0]

    def _worth(self, category: str, term: str) -> float:
        share = (self.in_clauses[category][term] + 0.5) / (self.clauses[category] + 1)
        elsewhere = min((self.having[term] + 0.5) / (self.passages + 1), 0.99)
        return share * math.log(share * (1 - elsewhere) / (elsewhere * (1 - share)))

    def _note_writing(self, text: str) -> None:
        for word in _WORD.findall(text.lower()):
            if word not in STOP_WORDS:
                for term in _TERMS(word):
                    self.written[term][word] += 1


def counted(contracts: Iterable[Mapping[str, Any]]) -> Counts:
    counts = Counts()
    for contract in contracts:
        counts.add(contract)
    return counts


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contracts", type=Path)
    parser.add_argument("--write", action="store_true", help="put the words into the schema")
    options = parser.parse_args(arguments)
    counts = counted(read_jsonl(options.contracts))
    words = {category: counts.telling(category) for category in sorted(counts.clauses)}
    for category, found in words.items():
        print(f"{category}: {', '.join(found)}")
    if options.write:
        path = shipped.path_of(SCHEMA)
        schema = json.loads(path.read_text("utf-8"))
        for field in schema["fields"]:
            field["cues"] = words[field["description"].partition(". ")[0]]
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
