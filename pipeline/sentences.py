"""From a growing text to sentences: lossless, in order, and the same however the text arrives.

Text is cut into passages (at blank lines and where the section changes), a passage into sentences by
`sentencex` with the rules of its language. Sentences keep the white space in front of them, so the pieces of
a document, joined, are its text. Knows nothing of tokens, files or tasks.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from pipeline.sentence_ends import sentence_ends

PASSAGE_CHARS: Final = 16_384
_BLANK_LINE: Final = re.compile(r"\n[ \t\r]*\n")
_SPACE: Final = re.compile(r"\s")


class Piece(NamedTuple):
    """A sentence, `text`, and the white space in front of it, `lead`."""

    lead: str
    text: str


def passage_end(text: str) -> int | None:
    """Where the first passage of `text` ends, or None if only more text can tell.

    A passage ends behind the first blank line. One without a blank line in PASSAGE_CHARS characters is cut at the last
    line end of its second half, else at the last white space there, or at the limit. The answer depends on the text
    alone, never on how much of it happened to have arrived.
    """
    blank = _BLANK_LINE.search(text, 0, PASSAGE_CHARS)
    if blank is not None:
        return blank.end()
    if len(text) >= PASSAGE_CHARS:
        return _cut(text, PASSAGE_CHARS)
    return None


def split_passage(text: str, language: str, max_chars: int) -> tuple[list[Piece], str]:
    """The sentences of a passage and the white space behind the last one. Joined, they are the passage.

    A sentence of more than `max_chars` characters is cut at line ends, or else at white space, where there is any.
    """
    pieces: list[Piece] = []
    lead = ""
    if not text.strip():
        return pieces, text
    for begin, end in pairwise([0, *sentence_ends(text, language), len(text)]):
        stretch = text[begin:end]
        rest = stretch.lstrip()
        if not rest:
            lead += stretch
            continue
        body = rest.rstrip()
        lead += stretch[: len(stretch) - len(rest)]
        parts = [("", body)] if len(body) <= max_chars else _bounded(body, max_chars)
        for part_lead, part in parts:
            pieces.append(Piece(lead + part_lead, part))
            lead = ""
        lead = rest[len(body) :]
    return pieces, lead


def _bounded(body: str, max_chars: int) -> list[tuple[str, str]]:
    """`body` in parts of at most `max_chars` characters, each with the white space in front of it."""
    parts: list[tuple[str, str]] = []
    lead = ""
    while len(body) > max_chars:
        cut = _cut(body, max_chars)
        part, rest = body[:cut], body[cut:]
        parts.append((lead, part.rstrip()))
        body = rest.lstrip()
        lead = part[len(part.rstrip()) :] + rest[: len(rest) - len(body)]
    return [*parts, (lead, body)]


def _cut(text: str, most: int) -> int:
    """Where a text that is too long is cut: behind the last line end between half of `most` and `most`, or white space
    there, or at `most`."""
    line = text.rfind("\n", most // 2, most) + 1
    if line:
        return line
    ends = [space.end() for space in _SPACE.finditer(text, most // 2, most)]
    return ends[-1] if ends else most
