"""Text for rules to work on, cut out of a stream of sentences with some text around it. Knows nothing of fields.

A rule sees a core and what stands before and behind it; what it finds counts where it starts in the core, so every
place of the document is in one core and nothing at a seam is lost or found twice. Cores depend on the sentences alone,
never on how many came at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pipeline.segments import Sentence
from pipeline.values import Value

CORE_CHARS: Final = 4096
OVERLAP_CHARS: Final = 1024


@dataclass(frozen=True)
class Piece:
    """A sentence with the white space in front of it; `char_start` is where that begins in the document.

    It is on `page`, or on the next one from the character `turn` of the document on.
    """

    index: int
    char_start: int
    lead: int
    text: str
    page: int | None
    turn: int | None = None

    def page_at(self, char: int) -> int | None:
        """The page of a character of the document."""
        is_turned = self.turn is not None and char >= self.turn
        return self.page + 1 if self.page is not None and is_turned else self.page

    @property
    def char_end(self) -> int:
        return self.char_start + len(self.text)

    @property
    def sentence_start(self) -> int:
        return self.char_start + self.lead


@dataclass(frozen=True)
class Stretch:
    """Text from character `base` of the document on, with its core [core_start, core_end), in the same characters."""

    text: str
    base: int
    core_start: int
    core_end: int
    pieces: tuple[Piece, ...]

    def piece_at(self, char: int) -> Piece:
        """The sentence that a character of the document belongs to."""
        starts = [piece.char_start for piece in self.pieces]
        return self.pieces[max(0, bisect_right(starts, char) - 1)]

    def core_pieces(self) -> list[Piece]:
        """The sentences that begin in the core."""
        return [piece for piece in self.pieces if self.core_start <= piece.char_start < self.core_end]


@dataclass(frozen=True)
class Buffer:
    """The sentences that no rule has seen as a core yet, and those just before them. A value; bounded."""

    pieces: tuple[Piece, ...] = ()
    core_start: int = 0

    def seen(self, sentences: Sequence[Sentence]) -> Buffer:
        """The buffer with some more sentences."""
        new = [
            Piece(one.index, one.char_start - len(one.lead), len(one.lead), one.lead + one.text, one.page, one.turn)
            for one in sentences
        ]
        return Buffer((*self.pieces, *new), self.core_start)

    def next_core(self) -> tuple[Stretch, Buffer] | None:
        """The next core that has all of its surroundings, and the buffer behind it; None if there is none yet."""
        if not self.pieces:
            return None
        behind = self.pieces[-1].char_end - OVERLAP_CHARS
        for piece in self.pieces:
            if piece.char_end - self.core_start >= CORE_CHARS:
                return self._cut(piece.char_end) if piece.char_end <= behind else None
        return None

    def last_core(self) -> Stretch | None:
        """What is left when no more sentences come."""
        if not self.pieces or self.pieces[-1].char_end <= self.core_start:
            return None
        return self._cut(self.pieces[-1].char_end)[0]

    def _cut(self, core_end: int) -> tuple[Stretch, Buffer]:
        shown = [piece for piece in self.pieces if piece.char_start < core_end + OVERLAP_CHARS]
        text = "".join(piece.text for piece in shown)
        stretch = Stretch(text, shown[0].char_start, self.core_start, core_end, tuple(shown))
        kept = tuple(piece for piece in self.pieces if piece.char_end > core_end - OVERLAP_CHARS)
        return stretch, Buffer(kept, core_end)

    def to_value(self) -> dict[str, Value]:
        rows: list[Value] = [[p.index, p.char_start, p.lead, p.text, p.page, p.turn] for p in self.pieces]
        return {"pieces": rows, "core_start": self.core_start}

    @classmethod
    def from_value(cls, value: Any) -> Buffer:
        return cls(tuple(Piece(*row) for row in value["pieces"]), cast(int, value["core_start"]))


def cores(buffer: Buffer) -> Iterator[tuple[Stretch, Buffer]]:
    """All cores that a buffer has now, each with the buffer behind it."""
    while (found := buffer.next_core()) is not None:
        yield found
        buffer = found[1]
