"""Sentences made ready to be asked: cut into passages, with the terms of each and indices over them.

Made once and asked as often as one likes. Knows nothing of questions or models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from pipeline.answers.lines import Line
from pipeline.retrieval.bm25 import Index, idf
from pipeline.retrieval.passages import runs
from pipeline.retrieval.terms import Terms, terms_of

USUAL_SENTENCES: Final = 500
"""A word's rarity is judged as in a text of so many at least: in one of a few sentences no word would be rare."""

_LONGEST_KEY: Final = 60
_LABEL_WORDS: Final = 4
_SMALL_WORD: Final = 3
_LEADERS: Final = re.compile(r"(?:\. ?){5}")
_SAYS_MORE: Final = re.compile(r"[\d.!?;:,=\t]")


@dataclass(frozen=True)
class Material:
    """Sentences of one or more documents in the order of the text: `terms` are those of each, `passages` where each
    passage begins and ends among them. `whole` and `parts` are indices of passages and of sentences.

    Terms are formed by the rules of each document's language; those of a question by `language`, one of `languages`.
    """

    lines: Sequence[Line]
    terms: Sequence[frozenset[str]]
    passages: Sequence[tuple[int, int]]
    whole: Index
    parts: Index
    language: str
    languages: Sequence[str]

    @classmethod
    def of(cls, lines: Iterable[Line], languages: Mapping[str, str]) -> Material:
        """Cut the sentences of documents, whose languages are known by their ids, into passages."""
        kept: list[Line] = []
        passages: list[tuple[int, int]] = []
        for _, found in groupby(lines, lambda line: line.doc_id):
            group = list(found)
            passages += [(len(kept) + run.first, len(kept) + run.last) for run in runs(group)]
            kept += group
        counts = Counter(languages.get(line.doc_id, "en") for line in kept)
        known = tuple(language for language, _ in counts.most_common())
        whole, parts, held = Index(), Index(), []
        for first, last in passages:
            find = terms_of(languages.get(kept[first].doc_id, "en"))
            terms = [find(line.text) for line in kept[first:last]]
            whole.add([term for one in terms for term in one])
            for one in terms:
                parts.add(one)
                held.append(frozenset(one))
        return cls(kept, held, passages, whole, parts, known[0] if known else "en", known)

    def asked(self, question: str) -> Material:
        """The same sentences, with the one of their languages by whose rules they have most of a question's words."""
        if len(self.languages) < 2:
            return self

        def known(language: str) -> float:
            terms = set(terms_of(language)(question))
            return sum(1 for term in terms if self.parts.having(term)) / max(len(terms), 1)

        return replace(self, language=max(self.languages, key=known))

    @property
    def find_terms(self) -> Terms:
        return terms_of(self.language)

    def rarity(self, term: str) -> float:
        """How much a term tells, by the sentences that have it."""
        return idf(max(len(self.parts), USUAL_SENTENCES), self.parts.having(term))

    def passage(self, place: int) -> tuple[Line, ...]:
        first, last = self.passages[place]
        return tuple(self.lines[first:last])

    def sayings(self, place: int) -> list[int]:
        """The sentences of a passage that may be quoted: those that do not only name what stands behind, if any."""
        all_of_it = range(*self.passages[place])
        return [at for at in all_of_it if not is_key(self.lines[at].text)] or list(all_of_it)

    def named(self, place: int) -> frozenset[str]:
        """The terms of a sentence, and those of a line before it that is its key."""
        own = self.terms[place]
        if place and is_key(self.lines[place - 1].text) and self.lines[place - 1].doc_id == self.lines[place].doc_id:
            return own | self.terms[place - 1]
        return own


def is_key(text: str) -> bool:
    """Whether a line only names what stands elsewhere: it ends in a colon, or is a label, heading or contents line."""
    if _LEADERS.search(text):
        return True
    written = text.strip().lstrip("#*- ")
    if len(written) >= _LONGEST_KEY or not written:
        return False
    return written.endswith(":") or _is_label(written) or _is_heading(written)


def _is_label(written: str) -> bool:
    return written[0].isupper() and len(written.split()) <= _LABEL_WORDS and not _SAYS_MORE.search(written)


def _is_heading(written: str) -> bool:
    """A few words with a full stop, all in capitals or all long ones beginning with one, such as `Interest Rates.`"""
    name = written.removesuffix(".")
    words = [word for word in name.split() if len(word) > _SMALL_WORD]
    titled = len(words) > 1 and all(word[0].isupper() for word in words)
    return not _SAYS_MORE.search(name) and (name.isupper() or titled)
