"""EPUB books: the chapters in the order of the spine, with sections from their headings. Text only, no pictures.

A book whose chapters are encrypted (DRM) is refused; encrypted fonts and pictures are of no concern.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Mapping
from importlib import metadata
from typing import BinaryIO, Final
from urllib.parse import unquote
from xml.etree import ElementTree

from pipeline.archives import open_archive, read_member
from pipeline.encodings import decoded
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction
from pipeline.headings import HeadingPath
from pipeline.html_text import as_html, parse_html, stretches

TEXT_SHARE: Final = 0.4
SUFFIXES: Final = (".epub",)
_CONTAINER: Final = "META-INF/container.xml"
_ENCRYPTION: Final = "META-INF/encryption.xml"
_PAGES: Final = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def version() -> str:
    return f"3 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    with open_archive(file, "an EPUB book") as archive:
        package_name = _package(archive)
        package = _xml(archive, package_name)
        chapters = _spine(package, posixpath.dirname(package_name))
        if not _encrypted(archive).isdisjoint(chapters):
            raise DocumentError("parse", "encrypted", "its chapters are encrypted (DRM); get the book without")
        path, gap = HeadingPath(), ""
        for name in chapters:
            root = parse_html(as_html(decoded(read_member(archive, name))[0]))
            for found in stretches(root, path, gap) if root is not None else ():
                if isinstance(found, HeadingPath):
                    path = found
                    continue
                yield found
                gap = "\n\n"
        yield About(title=_first(package, "title"), metadata=_metadata(package))


def _package(archive: zipfile.ZipFile) -> str:
    for element in _xml(archive, _CONTAINER).iter():
        if element.tag.endswith("}rootfile") and element.get("full-path"):
            return str(element.get("full-path"))
    raise DocumentError("parse", "parse_error", f"{_CONTAINER} names no package file; this is no EPUB book")


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """The names of the members that cannot be read, fonts among them."""
    if _ENCRYPTION not in archive.namelist():
        return set()
    listed = (one.get("URI") or "" for one in _xml(archive, _ENCRYPTION).iter() if one.tag.endswith("}CipherReference"))
    return {posixpath.normpath(unquote(name).lstrip("/")) for name in listed}


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    data = read_member(archive, name)
    if b"<!ENTITY" in data:
        raise DocumentError("parse", "bomb", f"{name} defines entities, which no book needs; nothing was expanded")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DocumentError("parse", "parse_error", f"{name} is not XML: {error}") from error


def _spine(package: ElementTree.Element, folder: str) -> list[str]:
    """The names of the chapters in reading order. What lies outside of the archive cannot be named."""
    items = {
        element.get("id"): unquote(element.get("href") or "")
        for element in package.iter()
        if element.tag.endswith("}item") and element.get("media-type") in _PAGES
    }
    order = [element.get("idref") for element in package.iter() if element.tag.endswith("}itemref")]
    names = [posixpath.normpath(posixpath.join(folder, items[one].split("#")[0])) for one in order if one in items]
    if not names:
        raise DocumentError("parse", "parse_error", "the book's spine names no chapters")
    return names


def _first(package: ElementTree.Element, name: str) -> str | None:
    texts = (element.text for element in package.iter() if element.tag.endswith("}" + name))
    return next((" ".join(text.split()) for text in texts if text and text.strip()), None)


def _metadata(package: ElementTree.Element) -> dict[str, str]:
    found = {name: _first(package, name) for name in ("creator", "language", "publisher", "date")}
    return {name: text for name, text in found.items() if text}
