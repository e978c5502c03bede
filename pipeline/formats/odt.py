"""OpenDocument texts (.odt): headings, lists, tables and notes, by way of HTML. Pictures and comments are left out.

Notes stand behind the paragraph or the table that they belong to, so that no sentence is torn.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import metadata
from typing import BinaryIO, Final
from xml.etree.ElementTree import ParseError, XMLParser, fromstring

from pipeline.archives import open_archive, read_member
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.html_text import parse_html, stretches

TEXT_SHARE: Final = 0.3
SUFFIXES: Final = (".odt", ".ott")
_OFFICE: Final = "{urn:oasis:names:tc:opendocument:xmlns:"
_TEXT: Final = _OFFICE + "text:1.0}"
_TABLE: Final = _OFFICE + "table:1.0}"
_BODY: Final = _OFFICE + "office:1.0}text"
_NOTE: Final = _TEXT + "note-body"
_ELEMENTS: Final = {
    _TEXT + "p": "p",
    _TEXT + "list": "ul",
    _TEXT + "list-item": "li",
    _TEXT + "list-header": "li",
    _TABLE + "table": "table",
    _TABLE + "table-row": "tr",
    _TABLE + "table-cell": "td",
    _NOTE: "blockquote",
}
_HAVE_NOTES: Final = frozenset((_TEXT + "p", _TEXT + "h", _TABLE + "table"))
_ALONE: Final = {_TEXT + "tab": "\t", _TEXT + "line-break": "<br>"}
_UNSEEN: Final = frozenset(
    (_OFFICE + "office:1.0}annotation", _TEXT + "tracked-changes", _TEXT + "note-citation", _TEXT + "sequence-decls")
)
_MOST_SPACES: Final = 100
_LISTING: Final = "META-INF/manifest.xml"


def version() -> str:
    return f"2 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    with open_archive(file, "an OpenDocument text (.odt)") as archive:
        names = archive.namelist()
        if _LISTING in names and b"manifest:encryption-data" in read_member(archive, _LISTING):
            raise DocumentError("parse", "encrypted", "encrypted; save it without a password")
        content = _plain_xml(read_member(archive, "content.xml"), "content.xml")
        meta = _plain_xml(read_member(archive, "meta.xml"), "meta.xml") if "meta.xml" in names else b"<none/>"
    page = _Page()
    try:
        parser = XMLParser(target=page)
        parser.feed(content)
        parser.close()
        title = fromstring(meta).findtext(".//{http://purl.org/dc/elements/1.1/}title")
    except ParseError as error:
        raise DocumentError("parse", "parse_error", f"its content is not XML: {error}; save it anew") from error
    root = parse_html("".join(page.html))
    if root is not None:
        yield from (found for found in stretches(root) if isinstance(found, Stretch))
    yield About(title=" ".join(title.split()) or None if title else None)


def _plain_xml(data: bytes, name: str) -> bytes:
    if b"<!ENTITY" in data:
        raise DocumentError("parse", "bomb", f"{name} defines entities, which no document needs; nothing was expanded")
    return data


class _Page:
    """Writes what an XML parser finds as HTML. White space is collapsed already where it means nothing.

    Notes are kept until the outermost paragraph or table ends that is open around them.
    """

    def __init__(self) -> None:
        self.html: list[str] = []
        self._notes: list[str] = []
        self._in_note = 0
        self._around = 0
        self._in_body = 0
        self._unseen = 0
        self._closing: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._in_body += tag == _BODY
        self._unseen += tag in _UNSEEN
        self._in_note += tag == _NOTE
        self._around += tag in _HAVE_NOTES and not self._in_note
        element = _ELEMENTS.get(tag, "")
        if tag == _TEXT + "h":
            element = f"h{_bounded(attributes.get(_TEXT + 'outline-level', '1'), 6)}"
        if element == "p" and self._open_html()[-1:] == ["<li>"]:
            element = ""  # the first paragraph of an item stands behind its dash
        self._closing.append(element)
        if element:
            self._write(f"<{element}>")
        elif tag == _TEXT + "s":
            self._write("\xa0" * _bounded(attributes.get(_TEXT + "c", "1"), _MOST_SPACES))
        elif tag in _ALONE:
            self._write(_ALONE[tag])

    def data(self, text: str) -> None:
        self._write(escape(text))

    def end(self, tag: str) -> None:
        element = self._closing.pop()
        if element:
            self._write(f"</{element}>")
        if tag in _HAVE_NOTES and not self._in_note:
            self._around -= 1
            if not self._around:
                self.html += self._notes
                self._notes = []
        self._in_note -= tag == _NOTE
        self._in_body -= tag == _BODY
        self._unseen -= tag in _UNSEEN

    def close(self) -> None:
        """Write the notes that stood in no paragraph."""
        self.html += self._notes

    def _write(self, html: str) -> None:
        if self._in_body and not self._unseen:
            self._open_html().append(html)

    def _open_html(self) -> list[str]:
        return self._notes if self._in_note else self.html


def _bounded(number: str, most: int) -> int:
    return min(max(int(number), 1), most) if number.isdecimal() and len(number) < 5 else 1
