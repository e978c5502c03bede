"""Markdown: kept as it is written, because models read it well and offsets stay exact; headings give sections.

Only ATX headings (`# …`) outside fenced code are headings. A section is named by its heading path,
outermost first: "1 Intro > 1.2 Scope".
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from pipeline.documents import Block, Cursor, DocumentFacts, DocumentRef
from pipeline.extraction import Stretch
from pipeline.files import TextFileFacts, inspect_text_file, read_text_blocks
from pipeline.formats.text import text_facts
from pipeline.headings import HeadingPath

if TYPE_CHECKING:
    from pipeline.values import Value

SUFFIXES: Final = (".md", ".markdown")
GROWS: Final = True
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#*)?[ \t]*\r?\n?$")
_ANCHOR: Final = re.compile(r"[ \t]*\{[#.:][^{}]*\}$")
"""What kramdown and pandoc put behind a heading, for links: no part of its name."""
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINE_CHARS: Final = 65_536  # a longer "line" is given out in parts, so that memory stays bounded
_BLOCK_CHARS: Final = 8_192


@dataclass(frozen=True)
class Outline:
    """Where in the structure a line stands: the open headings, and the open fence, if any."""

    headings: HeadingPath = field(default_factory=HeadingPath)
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
        return Outline(self.headings.entering(len(heading[1]), _ANCHOR.sub("", (heading[2] or "").strip())))

    @property
    def section(self) -> str | None:
        return self.headings.section


class Place(NamedTuple):
    """A place in a file, whatever its encoding: a byte that a block of it begins at, and characters behind that."""

    byte: int
    chars: int = 0


@dataclass(frozen=True)
class MarkdownDocument:
    """A Markdown file. Its cursor is the place to go on at, the outline there, and whether a line is open."""

    ref: DocumentRef
    facts: DocumentFacts
    file: TextFileFacts

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        place, outline, midline = Place(self.file.text_start), Outline(), False
        if after is not None:
            place, outline, midline = _from_cursor(after)
        held: list[str] = []
        held_chars, section, is_settled = 0, outline.section, True
        for line, end in _lines(read_text_blocks(self.ref.path, self.file, place.byte), place):
            then = outline if midline else outline.after(line)
            # A last line without an end may become another one, and so may its section.
            is_settled = line.endswith("\n") or len(line) == _LINE_CHARS
            if held and (then.section != section or held_chars >= _BLOCK_CHARS or not is_settled):
                yield Block("".join(held), section, None, _to_cursor(place, outline, midline))
                held, held_chars = [], 0
            held.append(line)
            held_chars += len(line)
            outline, section, place, midline = then, then.section, end, not line.endswith("\n")
        if held:
            yield Block("".join(held), section, None, _to_cursor(place, outline, midline), is_settled)


def open_document(ref: DocumentRef) -> MarkdownDocument:
    file = inspect_text_file(ref.path, ref.options.get("encoding"))
    return MarkdownDocument(ref, text_facts(file, _first_heading(file.sample)), file)


def sections(texts: Iterable[str]) -> Iterator[Stretch]:
    """Markdown that comes in pieces of any length, as lines with the section of each."""
    outline, midline = Outline(), False
    for line, _ in _lines(((text, 0) for text in texts), Place(0)):
        outline = outline if midline else outline.after(line)
        midline = not line.endswith("\n")
        yield Stretch(line, outline.section)


def _first_heading(sample: str) -> str | None:
    outline = Outline()
    for line in sample.splitlines():
        outline = outline.after(line)
        if outline.section:
            return outline.headings.open[-1][1]
    return None


def _lines(blocks: Iterator[tuple[str, int]], start: Place) -> Iterator[tuple[str, Place]]:
    """Lines with their endings and the place each ends at, however the text was cut into blocks.

    `blocks` begin at the byte of `start`. A line is cut by its own length alone, also where all of it is there at once.
    """
    rest, chars_out, chars_in = "", 0, -start.chars
    known = deque([(chars_in, start.byte)])  # blocks by the first of their characters, counted from `start`
    for text, end in blocks:
        *whole, rest = (rest + text[max(-chars_in, 0) :]).split("\n")
        for line in _cut([*(line + "\n" for line in whole), rest]):
            if len(line) < _LINE_CHARS and not line.endswith("\n"):
                rest = line
                break
            chars_out += len(line)
            yield line, _place(known, chars_out)
        else:
            rest = ""
        chars_in += len(text)
        known.append((chars_in, end))
    if rest:
        yield rest, _place(known, chars_out + len(rest))


def _cut(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from (line[start : start + _LINE_CHARS] for start in range(0, len(line), _LINE_CHARS))


def _place(known: deque[tuple[int, int]], chars: int) -> Place:
    while len(known) > 1 and known[1][0] <= chars:
        known.popleft()
    return Place(known[0][1], chars - known[0][0])


def _to_cursor(place: Place, outline: Outline, midline: bool) -> Cursor:
    headings: list[Value] = [[level, title] for level, title in outline.headings.open]
    return {
        "byte": place.byte,
        "chars": place.chars,
        "headings": headings,
        "fence": outline.fence,
        "midline": midline,
    }


def _from_cursor(cursor: Cursor) -> tuple[Place, Outline, bool]:
    headings = tuple((level, title) for level, title in cast("list[tuple[int, str]]", cursor["headings"]))
    place = Place(cast(int, cursor["byte"]), cast(int, cursor["chars"]))
    return place, Outline(HeadingPath(headings), cast(str, cursor["fence"])), cast(bool, cursor["midline"])
