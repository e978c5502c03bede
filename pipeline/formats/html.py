"""HTML pages: what a browser shows, with sections from the headings.

Navigation and footers are kept, unless the option `html_boilerplate` is `drop`: then `trafilatura` says what the page
is about, and if it finds nothing, all of the page is read and the metadata say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.encodings import decoded
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.html_text import as_html, parse_html, stretches, title_of

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

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
    return f"2 selectolax {metadata.version('selectolax')}{_main_text_by()}"


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
    wanted = options.get("html_boilerplate") == "drop"
    main = _main_text(root) if wanted and root is not None else None
    shown = main or root
    if shown is not None:
        yield from (found for found in stretches(shown) if isinstance(found, Stretch))
    notes = {"boilerplate": "kept: no main text was found"} if wanted and main is None else {}
    yield About(encoding, errors, title_of(root) if root is not None else None, metadata=notes)


def _main_text(root: LexborNode) -> LexborNode | None:
    """What a page is about, as a tree of its own, or None if that cannot be told.

    Raises DocumentError if `trafilatura` is not installed.
    """
    try:
        import trafilatura
    except ImportError as error:
        message = "inputs.html.boilerplate needs trafilatura: pip install 'unspool[web]'"
        raise DocumentError("open", "missing_extra", message, retryable=True) from error
    # What the tree is written as is a whole page, which trafilatura counts on.
    found = trafilatura.extract(root.html or "", output_format="html", include_comments=False)
    return parse_html(found) if found else None


def _main_text_by() -> str:
    """What finds the main text, and so has a say in it."""
    try:
        return f" trafilatura {metadata.version('trafilatura')}"
    except metadata.PackageNotFoundError:
        return ""


def declared_charset(data: bytes) -> str | None:
    """The encoding that a page says it is in."""
    found = _DECLARED.search(data[:_DECLARED_WITHIN])
    return (found[1] or found[2]).decode("ascii") if found else None
