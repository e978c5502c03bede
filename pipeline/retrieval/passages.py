"""From sentences to passages: runs of sentences of about a paragraph's length. Knows nothing of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

PASSAGE_CHARS: Final = 600


class Spanned(Protocol):
    """What has a place in a document."""

    @property
    def char_start(self) -> int: ...

    @property
    def char_end(self) -> int: ...


S = TypeVar("S", bound=Spanned)


@dataclass(frozen=True)
class Run:
    """Sentences [first, last) of a list."""

    first: int
    last: int


def runs(sentences: Sequence[S]) -> Iterator[Run]:
    """Cut sentences into passages: each ends with the sentence that makes it PASSAGE_CHARS characters long."""
    first = 0
    for place, sentence in enumerate(sentences):
        if sentence.char_end - sentences[first].char_start >= PASSAGE_CHARS:
            yield Run(first, place + 1)
            first = place + 1
    if first < len(sentences):
        yield Run(first, len(sentences))
