"""What converters make of a document, as JSON (.json): a DoclingDocument of docling, or the block tree of marker.

Pages and headings survive, so spans can be cited by page. Page headers and footers are left out, as both say they are
none of the text. Their Markdown needs no reader of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, BinaryIO, Final

from pipeline.encodings import decoded
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.headings import HeadingPath
from pipeline.html_text import parse_html, stretches

SUFFIXES: Final = (".json",)
_LARGEST: Final = 256 << 20
_FURNITURE: Final = frozenset(("page_header", "page_footer"))
_MARKER_FURNITURE: Final = frozenset(("PageHeader", "PageFooter"))
_HEADINGS: Final = {"title": 1, "section_header": 2}


def version() -> str:
    return f"1 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise DocumentError("parse", "too_large", f"more than {_LARGEST >> 20} MiB of JSON; split it")
    try:
        found = json.loads(decoded(data)[0])
    except ValueError as error:
        raise DocumentError("parse", "parse_error", f"not JSON: {error}; write records as .jsonl") from error
    if isinstance(found, dict) and found.get("schema_name") == "DoclingDocument":
        yield from _docling(found)
    elif isinstance(found, dict) and found.get("block_type") == "Document":
        yield from _marker(found)
    else:
        message = "neither a DoclingDocument nor marker's JSON; write records as .jsonl, one a line"
        raise DocumentError("open", "unsupported_type", message)


def _docling(document: Mapping[str, Any]) -> Extraction:
    path, gap, title = HeadingPath(), "", None
    for item in _docling_items(document):
        label, text = item.get("label"), _docling_text(item)
        if label in _FURNITURE or item.get("content_layer") == "furniture" or not text.strip():
            continue
        if label in _HEADINGS:
            title = title or (text if label == "title" else None)
            level = item.get("level")
            path = path.entering(
                _HEADINGS[label] + (level - 1 if isinstance(level, int) else 0), " ".join(text.split())
            )
        yield Stretch(gap + text, path.section, _docling_page(item))
        gap = "\n" if label == "list_item" else "\n\n"
    yield About(title=title, pages=len(document.get("pages") or ()) or None)


def _docling_items(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The items of the body in reading order, each once, however the references run."""
    pending, seen = [document.get("body") or {}], set()
    while pending:
        item = pending.pop()
        yield item
        for child in reversed(item.get("children") or ()):
            reference = str(child.get("$ref", child.get("cref", "")))
            kind, _, number = reference.removeprefix("#/").partition("/")
            known = document.get(kind)
            if reference not in seen and isinstance(known, list) and number.isdecimal() and int(number) < len(known):
                seen.add(reference)
                pending.append(known[int(number)])


def _docling_text(item: Mapping[str, Any]) -> str:
    rows = (item.get("data") or {}).get("grid") if item.get("label") in ("table", "document_index") else None
    if rows:
        return "\n".join("\t".join(" ".join(str(cell.get("text", "")).split()) for cell in row) for row in rows)
    text = item.get("text") or ""
    return f"- {text}" if item.get("label") == "list_item" and text else str(text)


def _docling_page(item: Mapping[str, Any]) -> int | None:
    places = item.get("prov") or [{}]
    number = places[0].get("page_no")
    return number if isinstance(number, int) else None


def _marker(document: Mapping[str, Any]) -> Extraction:
    path, gap = HeadingPath(), ""
    pages = document.get("children") or ()
    for number, page in enumerate(pages, start=1):
        for html in _marker_blocks(page):
            root = parse_html(html)
            for found in stretches(root, path, gap) if root is not None else ():
                if isinstance(found, HeadingPath):
                    path = found
                    continue
                yield Stretch(found.text, found.section, number)
                gap = "\n\n"
    yield About(pages=len(pages) or None)


def _marker_blocks(page: Mapping[str, Any]) -> Iterator[str]:
    """The HTML of the blocks without children, in order: that of the others only points to them."""
    pending = [page]
    while pending:
        block = pending.pop()
        if block.get("block_type") in _MARKER_FURNITURE:
            continue
        if block.get("children"):
            pending.extend(reversed(block["children"]))
        else:
            yield str(block.get("html") or "")
