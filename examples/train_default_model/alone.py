"""Texts that stand by themselves: questions and answers, terms, abstracts, words, short phrases and statements.

Sentences of documents are long and know what stood before them; what people search with is short and does not. Knows
nothing of teachers or tokens.
"""

from __future__ import annotations

import json
import lzma
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.train_default_model.overlap import EvaluationText
from examples.train_default_model.sentences import is_mostly_letters, plain, sentences

PAIRS_FOLDER = "train/pairs"
LONGEST_TEXT = 1_200
RAREST_WORD = 6
PHRASE_WORDS = (2, 6)
CLAUSE_WORDS = (4, 12)
_BETWEEN_CLAUSES = re.compile(r"[,;:()—–]|\s(?=(?:and|but|because|so|which|who|that|when|while|where|if)\s)")
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class PairSet:
    """A file of JSON lines below train/pairs, its licence and the fields that hold texts."""

    file: str
    licence: str
    fields: tuple[str, ...]


PAIR_SETS = (
    PairSet("qa-medquad.jsonl.xz", "CC BY 4.0", ("query",)),
    PairSet("glossary-openstax.jsonl.xz", "CC BY 4.0", ("query", "positive")),
    PairSet("nli-conjnli.jsonl.xz", "MIT", ("a",)),
    PairSet("spec-abstracts.jsonl.xz", "public domain, CC0, MIT or Apache-2.0", ("query", "positive")),
    PairSet("tldr-scitldr.jsonl.xz", "Apache-2.0", ("query", "positive")),
    PairSet("qmsum-queries.jsonl.xz", "MIT", ("query", "positive")),
    PairSet("squality-answers.jsonl.xz", "CC BY 4.0", ("query", "positive")),
)
"""Sets that anybody may use what is learned from: none under share-alike, none without a licence."""


def pair_texts(data: Path, evaluation: EvaluationText) -> Iterator[str]:
    """Stream the different texts of all pair sets that are there, on one line each, without evaluation text."""
    seen: set[str] = set()
    for one in PAIR_SETS:
        path = data / PAIRS_FOLDER / one.file
        if not path.exists():
            continue
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                for text in (plain(row[name]) for name in one.fields):
                    if text not in seen and 1 < len(text) <= LONGEST_TEXT and not evaluation.touches(text):
                        seen.add(text)
                        yield text


def split_words(passages: Iterable[str], encode: Callable[[str], list[int]], count: int) -> list[str]:
    """The most frequent words of a text that the tokenizer has no token for: their parts must add up to them."""
    counts = Counter(word for passage in passages for word in _WORD.findall(passage.lower()))
    frequent = (word for word, times in counts.most_common() if times >= RAREST_WORD)
    found: list[str] = []
    for word in frequent:
        if len(found) == count:
            break
        if len(encode(" " + word)) > 1:
            found.append(word)
    return found


def phrases(passages: Iterable[str], count: int, every: int = 40) -> list[str]:
    """Short runs of words, one from about every so many words, at places that depend on the text alone."""
    chooser, found = random.Random(0), []
    for passage in passages:
        words = passage.split()
        for block in range(0, len(words), every):
            start, length = block + chooser.randrange(every), chooser.randint(*PHRASE_WORDS)
            text = plain(" ".join(words[start : start + length]))
            if len(text.split()) >= PHRASE_WORDS[0] and is_mostly_letters(text, 0.7):
                found.append(text)
    chooser.shuffle(found)
    return found[:count]


def clauses(passages: Iterable[str], count: int, one_in: int = 5) -> list[str]:
    """Parts of sentences of the text, each once: short statements, such as people compare.

    Of about one passage in so many; from every sentence there at most one clause, half of them as sentences.
    """
    chooser, found = random.Random(0), set[str]()
    for passage in passages:
        if chooser.randrange(one_in):
            continue
        for sentence in sentences(passage):
            parts = [" ".join(part.split()) for part in _BETWEEN_CLAUSES.split(plain(sentence).rstrip(".!?"))]
            fitting = [part for part in parts if _is_clause(part)]
            if fitting:
                text = chooser.choice(fitting)
                found.add(text[0].upper() + text[1:] + "." if chooser.random() < 0.5 else text)
    chosen = sorted(found)
    chooser.shuffle(chosen)
    return chosen[:count]


def _is_clause(text: str) -> bool:
    words = len(text.split())
    return CLAUSE_WORDS[0] <= words <= CLAUSE_WORDS[1] and is_mostly_letters(text, 0.75)
