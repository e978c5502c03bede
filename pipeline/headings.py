"""The headings that are open at a place of a document, and the section they name. Knows nothing of formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadingPath:
    """Open headings as (level, title), outermost first; deeper ones have higher levels."""

    open: tuple[tuple[int, str], ...] = ()

    def entering(self, level: int, title: str) -> HeadingPath:
        """The path behind a heading: it closes those of its own level and below."""
        return HeadingPath((*(kept for kept in self.open if kept[0] < level), (level, title)))

    @property
    def section(self) -> str | None:
        """Such as "1 Intro > 1.2 Scope"; None before the first heading."""
        return " > ".join(title for _, title in self.open) or None
