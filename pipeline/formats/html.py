"""HTML pages: what a browser shows, with sections from the headings. Navigation and footers are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from typing import BinaryIO, Final

from pipeline.encodings import decoded
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.html_text import as_html, parse_html, stretches, title_of

TEXT_SHARE: Final = 0.5
SUFFIXES: Final = (".html", ".htm", ".xhtml")
_LARGEST: Final = 64 << 20
_NUL_SHARE: Final = 0.1
_DECLARED: Final = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]+encoding=["']([\w.:-]+)""", re.I
)
_DECLARED_WITHIN: Final = 4096
_XML: Final = re.compile(r"\s*<\?xml|\s*<!DOCTYPE[^>]+XHTML", re.IGNORECASE)
_OTHER_KINDS: Final = (b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"\x7fELF", b"\x89PNG", b"\xd0\xcf\x11\xe0")


def version() -> str:
    return f"2 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise DocumentError("parse", "too_large", f"more than {_LARGEST >> 20} MiB of HTML; split the file")
    if data.startswith(_OTHER_KINDS):
        raise DocumentError("open", "unsupported_type", "not an HTML page; give the file the suffix of its kind")
    text, encoding, errors = decoded(data, options.get("encoding") or declared_charset(data))
    if text.count("\0") > _NUL_SHARE * len(text):
        raise DocumentError("decode", "binary_not_text", "mostly NUL: if it is UTF-16 or UTF-32, save it with a mark")
    root = parse_html(as_html(text) if _XML.match(text) else text)
    if root is not None:
        yield from (found for found in stretches(root) if isinstance(found, Stretch))
    yield About(encoding, errors, title_of(root) if root is not None else None)


def declared_charset(data: bytes) -> str | None:
    """The encoding that a page says it is in."""
    found = _DECLARED.search(data[:_DECLARED_WITHIN])
    return (found[1] or found[2]).decode("ascii") if found else None
