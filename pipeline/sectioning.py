"""The section of each sentence, by a rule that the job chooses: headings alone, pages, or topics found in the text.

A rule takes sentences in order and hands them on in order, at once or some of them later, with their sections. What it
hands on and when depends on the text alone, and what it holds back is bounded. Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

from pipeline.retrieval.terms import terms_of
from pipeline.topics import topic_starts, weighed_words
from pipeline.values import Value

HEADINGS: Final = "headings"
PAGES: Final = "pages"
TOPICS: Final = "topics"

HELD_SENTENCES: Final = 128
HELD_CHARS: Final = 32_768
"""Topics are looked for once so many sentences or characters wait; then the first half of them is handed on."""
_CONTEXT_CHARS: Final = 4_096


@dataclass(frozen=True)
class Region:
    """A sentence whose token span is not known yet, with the white space in front of it.

    `page` is that on which it begins; at `turn`, if that is not None, it goes on over to the next one.
    """

    lead: str
    text: str
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    section: str | None
    page: int | None
    is_final: bool
    turn: int | None = None

    def as_row(self) -> tuple[Any, ...]:
        """Its values in their order, for a checkpoint."""
        return tuple(vars(self).values())

    def joined(self, later: Region) -> Region:
        """This region and the next as one."""
        follows = self.page is not None and later.page == self.page + 1
        return replace(
            self,
            text=self.text + later.lead + later.text,
            byte_end=later.byte_end,
            char_end=later.char_end,
            is_final=later.is_final,
            turn=self.turn or (later.char_start if follows else later.turn if later.page == self.page else None),
        )


class Sectioning(Protocol):
    """A rule at its place in a document."""

    @property
    def held_behind(self) -> int | None:
        """The document byte behind the last region handed on, if any are held back; else None."""

    def take(self, region: Region) -> Iterable[Region]:
        """The next region of the document; what can be handed on now."""

    def finish(self) -> Iterable[Region]:
        """The rest, at the end of the document."""

    def snapshot(self) -> Mapping[str, Value]:
        """What makes the same rule go on here; nothing where there is nothing to remember."""


def sectioning(rule: str, language: str, snapshot: Mapping[str, Value]) -> Sectioning:
    """The rule of this name, from the start of a document or from where a snapshot was taken."""
    if rule == TOPICS:
        return _Topics(language, snapshot)
    return _AsTheyCome() if rule == HEADINGS else _Pages()


class _AsTheyCome:
    """Sections are what the document marks as such."""

    held_behind: int | None = None

    def take(self, region: Region) -> Iterable[Region]:
        return (region,)

    def finish(self) -> Iterable[Region]:
        return ()

    def snapshot(self) -> Mapping[str, Value]:
        return {}


class _Pages(_AsTheyCome):
    """Under no heading, each page is a section."""

    def take(self, region: Region) -> Iterable[Region]:
        if region.section is None and region.page is not None:
            return (replace(region, section=f"page {region.page}"),)
        return (region,)


class _Topics:
    """Under no heading, stretches of one topic are sections. Owns the sentences whose topic is not known yet.

    `_context` is the end of the open topic, in front of the held sentences; "" where a topic is to begin.
    """

    def __init__(self, language: str, snapshot: Mapping[str, Value]) -> None:
        self._terms = terms_of(language)
        self._held = [Region(*row) for row in cast("list[list[Any]]", snapshot.get("held", []))]
        self._chars = sum(len(region.text) for region in self._held)
        self._context = cast(str, snapshot.get("context", ""))
        self._number = cast(int, snapshot.get("number", 0))
        self._end = cast(int, snapshot.get("end", 0))

    @property
    def held_behind(self) -> int | None:
        return self._end if self._held else None

    def snapshot(self) -> Mapping[str, Value]:
        held = [region.as_row() for region in self._held]
        return {"held": held, "context": self._context, "number": self._number, "end": self._end}

    def take(self, region: Region) -> Iterable[Region]:
        if region.section is not None:
            rest = self._decided(len(self._held))
            self._context, self._end = "", region.byte_end
            return (*rest, region)
        self._held.append(region)
        self._chars += len(region.text)
        if len(self._held) >= HELD_SENTENCES or self._chars >= HELD_CHARS:
            return self._decided(max(len(self._held) // 2, 1))
        return ()

    def finish(self) -> Iterable[Region]:
        # With more text behind them, their topics might be others.
        return [replace(region, is_final=False) for region in self._decided(len(self._held))]

    def _decided(self, count: int) -> list[Region]:
        """The first held regions with their topics, which all that are held have a say in."""
        starts = self._starts()
        found = []
        for place, region in enumerate(self._held[:count]):
            if place in starts:
                self._number, self._context = self._number + 1, ""
            self._context = f"{self._context} {region.text}"[-_CONTEXT_CHARS:]
            self._end = region.byte_end
            found.append(replace(region, section=f"topic {self._number}"))
        self._held = self._held[count:]
        self._chars = sum(len(region.text) for region in self._held)
        return found

    def _starts(self) -> frozenset[int]:
        """The places in `_held` at which topics begin."""
        before = [self._context] if self._context else []
        words = [self._terms(text) for text in (*before, *(region.text for region in self._held))]
        begun = topic_starts(weighed_words(words)) if len(words) > 1 else []
        return frozenset([place - len(before) for place in begun] + ([] if before else [0]))
