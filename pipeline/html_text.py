"""From HTML to text as a person would read it: blocks in order, headings as sections, tables as lines with tabs.

What browsers do not show (scripts, styles, hidden elements) is left out; everything else stays, navigation too. White
space is collapsed as in a browser, except in preformatted text. Shared by HTML, EPUB, DOCX and mail. The tree is
walked without recursion, so nesting costs no stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.extraction import Stretch
from pipeline.headings import HeadingPath

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNSEEN: Final = _words("head script style template noscript iframe object svg audio video canvas select")
_BLOCKS: Final = _words(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "header hgroup hr html legend li main menu nav ol optgroup option p pre section summary table tbody tfoot thead "
    "tr ul caption h1 h2 h3 h4 h5 h6"
)
_TIGHT: Final = _words("li tr dt dd option tbody thead tfoot legend summary")
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_CELLS: Final = frozenset(("td", "th"))
_HIDDEN_STYLE: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\n\r\f]+")
_STANDING_OPEN: Final = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>"
)


@dataclass
class _Page:
    """The text so far of what is being read: pieces of the open line, and the gap that stands before the next one."""

    path: HeadingPath
    line: list[str] = field(default_factory=list)
    gap: str = ""
    begun: bool = False
    heading: list[str] | None = None
    preformatted: int = 0

    def add(self, text: str) -> None:
        if self.heading is not None:
            self.heading.append(text)
        if self.preformatted:
            self.line.append(text)
            return
        text = _SPACE.sub(" ", text)
        if not self.line or self.line[-1].endswith((" ", "\n", "\t")):
            text = text.lstrip(" ")
        if text:
            self.line.append(text)

    def end_block(self, gap: str) -> Iterator[Stretch]:
        """Close the open line; the next one stands behind `gap` or a wider one that was asked for already."""
        text = "".join(self.line).strip("\n") if self.preformatted else "".join(self.line).strip(" \t\n")
        self.line = []
        if text.strip():
            yield Stretch((self.gap if self.begun else "") + text, self.path.section)
            self.begun, self.gap = True, gap
        elif len(gap) > len(self.gap):
            self.gap = gap


def parse_html(html: str) -> LexborNode | None:
    """The root of the tree of a document, or None if it holds nothing."""
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(html).root


def as_html(xhtml: str) -> str:
    """XHTML in which elements that end at once (`<title/>`) are written so that an HTML parser sees their end."""
    return _STANDING_OPEN.sub(r"<\1\2></\1>", xhtml)


def title_of(root: LexborNode) -> str | None:
    """What the document calls itself."""
    found = root.css_first("head > title")
    title = " ".join(found.text().split()) if found is not None else ""
    return title or None


def stretches(root: LexborNode, path: HeadingPath | None = None, gap: str = "") -> Iterator[Stretch | HeadingPath]:
    """The text of a tree in order, and the heading path behind it as the last one.

    `path` are the headings open before it, `gap` what stands between the text before it and its own.
    """
    page = _Page(path or HeadingPath(), gap=gap, begun=bool(gap))
    node: LexborNode | None = root
    while node is not None:
        child = None
        if _seen(node):
            yield from _enter(node, page)
            child = node.child
        if child is not None:
            node = child
            continue
        while node is not None:
            if _seen(node):
                yield from _leave(node, page)
            if node.mem_id == root.mem_id:
                node = None
            elif node.next is not None:
                node = node.next
                break
            else:
                node = node.parent
    yield from page.end_block("")
    yield page.path


def _seen(node: LexborNode) -> bool:
    tag = node.tag
    if tag in _UNSEEN or tag is None:
        return False
    if tag.startswith(("-", "!", "_")) or not node.is_element_node:
        return node.is_text_node or tag in ("-document", "-undef")
    attributes = node.attributes
    return "hidden" not in attributes and not _HIDDEN_STYLE.search(attributes.get("style") or "")


def _enter(node: LexborNode, page: _Page) -> Iterator[Stretch]:
    tag = node.tag or ""
    if node.is_text_node:
        page.add(node.text_content or "")
    elif tag == "br":
        page.line.append("\n")
    elif _is_block(node):
        yield from page.end_block("\n" if tag in _TIGHT else "\n\n")
        if tag in _HEADINGS:
            page.heading = []
        elif tag == "li":
            page.line.append("- ")
        page.preformatted += tag == "pre"


def _leave(node: LexborNode, page: _Page) -> Iterator[Stretch]:
    tag = node.tag or ""
    if tag in _CELLS and _has_later_cell(node):
        page.line = ["".join(page.line).rstrip(" \n"), "\t"]
    elif tag in _HEADINGS and page.heading is not None:
        title = " ".join("".join(page.heading).split())
        page.heading = None
        if title:
            page.path = page.path.entering(_HEADINGS[tag], title)
        yield from page.end_block("\n\n")
    elif _is_block(node):
        yield from page.end_block("\n" if tag in _TIGHT else "\n\n")
        page.preformatted -= tag == "pre"


def _is_block(node: LexborNode) -> bool:
    """Whether an element stands on lines of its own. The only paragraph of a table's cell does not."""
    if node.tag not in ("p", "div"):
        return node.tag in _BLOCKS
    cell = node.parent
    return cell is None or cell.tag not in _CELLS or any(child.mem_id != node.mem_id for child in cell.iter())


def _has_later_cell(node: LexborNode) -> bool:
    later = node.next
    while later is not None and later.tag not in _CELLS:
        later = later.next
    return later is not None
