"""The headings that are open at a place of a document, and the section they name. Knows nothing of formats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NUMBERED: Final = re.compile(r"(.*) \((\d+)\)", re.DOTALL)


@dataclass(frozen=True)
class HeadingPath:
    """Open headings as (level, title), outermost first; deeper ones have higher levels."""

    open: tuple[tuple[int, str], ...] = ()

    def entering(self, level: int, title: str) -> HeadingPath:
        """The path behind a heading: it closes those of its own level and below.

        A heading right behind one of the same words gets a number, so that their sections are two: "Notes (2)".
        """
        kept = tuple(one for one in self.open if one[0] < level)
        if len(kept) + 1 == len(self.open):
            title = _told_apart(title, self.open[-1][1])
        return HeadingPath((*kept, (level, title)))

    @property
    def section(self) -> str | None:
        """Such as "1 Intro > 1.2 Scope"; None before the first heading."""
        return " > ".join(title for _, title in self.open) or None


def _told_apart(title: str, before: str) -> str:
    """`title`, or, where `before` is the same words, with the next number."""
    if title == before:
        return f"{title} (2)"
    numbered = _NUMBERED.fullmatch(before)
    return f"{title} ({int(numbered[2]) + 1})" if numbered and numbered[1] == title else title
