"""What a normalizer of characters (NFC) needs of a tokenizer that reads in parts and counts bytes of the original text.

Knows nothing of vocabularies; the normalizer itself is that of the `tokenizers` library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby

from rwkv_runtime.tokenizers import Piece

REACH = 64
"""Characters that are looked back over for a place to cut: twice the 30 marks on one letter that Unicode's Stream-Safe
Text Format allows."""


def last_boundary(text: str, limit: int, normalize: Callable[[str], str]) -> int:
    """Return the last place before `limit` with no composition across it, or `limit` if there is none in REACH."""
    for place in range(limit - 1, limit - REACH, -1):
        left, right = text[place - REACH : place], text[place]
        if unicodedata.combining(right) == 0 and normalize(left + right) == normalize(left) + normalize(right):
            return place
    return limit


def over_original(pieces: Sequence[Piece], starts: Sequence[int], text: str) -> list[Piece]:
    """Let tokens of the normalized text cover the bytes of the original one, without a gap.

    `pieces` have their lengths in the normalized text, `starts` the character of `text` at which each begins, as the
    library reports it; tokens that begin in the same character have the same one. Such a group covers the bytes from
    there to where the next one begins: each its own length if these add up to it, else the first all, the others none.
    """
    edges = list(accumulate((len(character.encode("utf-8")) for character in text), initial=0))
    groups = [[piece for piece, _ in found] for _, found in groupby(zip(pieces, starts, strict=True), lambda of: of[1])]
    begins = [0, *(start for start, _ in groupby(starts)), len(text)]
    del begins[1]  # the first group begins with the text
    covered: list[Piece] = []
    for group, begin, end in zip(groups, begins[:-1], begins[1:], strict=True):
        width = edges[end] - edges[begin]
        if sum(length for _, length in group) != width:
            group = [(token, 0 if place else width) for place, (token, _) in enumerate(group)]
        covered += group
    return covered
