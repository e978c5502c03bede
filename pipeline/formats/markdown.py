"""Markdown: kept as it is written, because models read it well and offsets stay exact; headings give sections.

Only ATX headings (`# …`) outside fenced code are headings. A section is named by its heading path,
outermost first: "1 Intro > 1.2 Scope".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef
from pipeline.files import TextFileFacts, inspect_text_file, read_text_blocks
from pipeline.formats.text import text_facts
from pipeline.values import Value

SUFFIXES: Final = (".md", ".markdown")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#*)?[ \t]*\r?\n?$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINE_CHARS: Final = 65_536  # a longer "line" is given out in parts, so that memory stays bounded
_BLOCK_CHARS: Final = 8_192


@dataclass(frozen=True)
class Outline:
    """Where in the structure a line stands: the open headings as (level, title), and the open fence, if any."""

    headings: tuple[tuple[int, str], ...] = ()
    fence: str = ""

    def after(self, line: str) -> Outline:
        """The outline behind a line."""
        fence = _FENCE.match(line)
        if self.fence:
            closes = fence is not None and fence[1].startswith(self.fence) and not line.strip().strip(fence[1][0])
            return Outline(self.headings, "" if closes else self.fence)
        if fence is not None:
            return Outline(self.headings, fence[1])
        heading = _HEADING.match(line)
        if heading is None:
            return self
        level, title = len(heading[1]), (heading[2] or "").strip()
        return Outline((*(kept for kept in self.headings if kept[0] < level), (level, title)))

    @property
    def section(self) -> str | None:
        return " > ".join(title for _, title in self.headings) or None


@dataclass(frozen=True)
class MarkdownDocument:
    """A Markdown file. Its cursor is the byte to go on at, the outline there, and whether a line is open."""

    ref: DocumentRef
    facts: DocumentFacts
    file: TextFileFacts

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        byte, outline, midline = self.file.text_start, Outline(), False
        if after is not None:
            byte, outline, midline = _from_cursor(after)
        held: list[str] = []
        held_chars, section = 0, outline.section
        for line, end in _lines(read_text_blocks(self.ref.path, self.file, byte), byte):
            then = outline if midline else outline.after(line)
            if held and (then.section != section or held_chars >= _BLOCK_CHARS):
                yield Block("".join(held), section, None, _to_cursor(byte, outline, midline))
                held, held_chars = [], 0
            held.append(line)
            held_chars += len(line)
            outline, section, byte, midline = then, then.section, end, not line.endswith("\n")
        if held:
            yield Block("".join(held), section, None, _to_cursor(byte, outline, midline))


def open_document(ref: DocumentRef) -> MarkdownDocument:
    file = inspect_text_file(ref.path)
    return MarkdownDocument(ref, text_facts(file, _first_heading(file.sample)), file)


def _first_heading(sample: str) -> str | None:
    outline = Outline()
    for line in sample.splitlines():
        outline = outline.after(line)
        if outline.section:
            return outline.headings[-1][1]
    return None


def _lines(blocks: Iterator[tuple[str, int]], byte: int) -> Iterator[tuple[str, int]]:
    """Lines with their endings and the byte each ends at, however the text was cut into blocks."""
    rest = ""
    for text, _ in blocks:
        *whole, rest = (rest + text).split("\n")
        for line in (*(line + "\n" for line in whole), rest):
            # Cut by its own length alone, also where all of it is there at once.
            while len(line) > _LINE_CHARS:
                part, line = line[:_LINE_CHARS], line[_LINE_CHARS:]
                byte += len(part.encode("utf-8"))
                yield part, byte
            if line.endswith("\n"):
                byte += len(line.encode("utf-8"))
                yield line, byte
            else:
                rest = line
    if rest:
        yield rest, byte + len(rest.encode("utf-8"))


def _to_cursor(byte: int, outline: Outline, midline: bool) -> Cursor:
    headings: list[Value] = [[level, title] for level, title in outline.headings]
    return {"byte": byte, "headings": headings, "fence": outline.fence, "midline": midline}


def _from_cursor(cursor: Cursor) -> tuple[int, Outline, bool]:
    headings = tuple((int(level), str(title)) for level, title in cast("list[tuple[int, str]]", cursor["headings"]))
    outline = Outline(headings, cast(str, cursor["fence"]))
    return cast(int, cursor["byte"]), outline, cast(bool, cursor["midline"])
