"""Sentences as the pipeline cuts them, and the form in which the teacher sees one.

A sentence keeps the white space in front of it, so those of a passage, joined, are the passage and its tokens are the
passage's tokens. Knows nothing of vectors.
"""

from __future__ import annotations

import re

from pipeline.sentences import passage_end, split_passage

LONGEST_SENTENCE = 2000
_HEADING = re.compile(r"#{1,6} \S")
_MARKUP = re.compile(r"^(?:[#>*+\-•|]+\s+|\d{1,3}[.)]\s+)+")
_FEWEST_WORDS = 2
_LONGEST_TARGET = 500


def sentences(text: str) -> list[str]:
    """The sentences of an English text, each with the white space in front of it; the last one takes what is left."""
    found: list[str] = []
    lead = ""
    while text:
        end = passage_end(text) or len(text)
        pieces, rest = split_passage(text[:end], "en", LONGEST_SENTENCE)
        for piece in pieces:
            found.append(lead + piece.lead + piece.text)
            lead = ""
        lead += rest
        text = text[end:]
    return [*found[:-1], found[-1] + lead] if found else []


def is_heading(sentence: str) -> bool:
    """Whether the sentence is a Markdown heading."""
    return bool(_HEADING.match(sentence.lstrip()))


def plain(sentence: str) -> str:
    """The sentence on one line, without list and heading marks: what is embedded when it stands alone."""
    return _MARKUP.sub("", " ".join(sentence.split()))


def is_teachable(text: str, longest_words: int) -> bool:
    """Whether a plain sentence of at most so many words is one that the teacher's vector says something about."""
    return (
        len(text) <= _LONGEST_TARGET
        and _FEWEST_WORDS <= len(text.split()) <= longest_words
        and is_mostly_letters(text, 0.5)
    )


def is_mostly_letters(text: str, share: float) -> bool:
    """Whether more than this share of the characters are letters."""
    return sum(map(str.isalpha, text)) > share * len(text)
