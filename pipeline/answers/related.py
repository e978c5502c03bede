"""Words that answers have in place of a question's own: who asks about treatments is told of drugs and surgery.

Some were learned from pairs of questions and answers: the file beside this module is made by
`tests/bench/answer_words.py` of MedQuAD and CUAD, train splits, in English stems. What invoices and contracts call
their fields is taken from the schemas that come with the package, in all languages that these know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from pipeline.fields.shipped import fields_of
from pipeline.retrieval.terms import terms_of

FILE: Final = Path(__file__).with_name("words.json")

_SCHEMAS: Final = ("invoice", "contract")
_ROLES: Final = {
    "seller": "sold by, seller, vendor, supplier, provider, issued by, verkäufer, verkoper, vendeur",
    "vendor": "sold by, seller, vendor, supplier, provider",
    "supplier": "sold by, seller, vendor, supplier, provider",
    "buyer": "bill to, billed to, sold to, customer, client, buyer, purchaser, ship to, kunde, klant",
    "customer": "bill to, billed to, sold to, customer, client, buyer, purchaser, ship to",
    "price": "price, total, cost, amount, rate",
    "cost": "price, total, cost, amount, charge, fee",
}
_WORTH: Final = 3.0
_NEXT: Final = 0.85


def related(asked: Iterable[str], language: str) -> dict[str, float]:
    """The words that answer a question with these terms (stems), each with its worth, best first; none of its own."""
    own, found = set(asked), dict[str, float]()
    learned = _learned() if language == "en" else {}
    for term in own:
        _add(found, learned.get(term, {}))
    for names, cues in _fields(language):
        if names <= own:
            _add(found, cues)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {word: worth for word, worth in ranked if word not in own}


def _add(found: dict[str, float], words: dict[str, float]) -> None:
    for word, worth in words.items():
        found[word] = max(worth, found.get(word, 0.0))


@cache
def _learned() -> dict[str, dict[str, float]]:
    words: dict[str, dict[str, float]] = json.loads(FILE.read_text("utf-8"))
    return words


@cache
def _fields(language: str) -> list[tuple[frozenset[str], dict[str, float]]]:
    """For each field its name's terms, and the terms of its cues with their worth, the first of which is greatest."""
    named = [(field.name.replace("_", " "), field.cues) for name in _SCHEMAS for field in fields_of(name) if field.cues]
    named += [(name, tuple(cues.split(", "))) for name, cues in _ROLES.items()]
    english, terms = terms_of("en"), terms_of(language)
    found = []
    for name, cues in named:
        words: dict[str, float] = {}
        for place, cue in enumerate(cues):
            _add(words, dict.fromkeys([*english(cue), *terms(cue)], _WORTH * _NEXT**place))
        found += [(frozenset(find(name)), words) for find in (english, terms)]
    return found
