"""Word documents (.docx): headings, lists, tables and footnotes, by way of HTML. Pictures are left out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from io import BytesIO
from typing import Any, BinaryIO, Final

from pipeline.archives import open_archive, read_member
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.html_text import parse_html, stretches

TEXT_SHARE: Final = 0.3
SUFFIXES: Final = (".docx",)
_CORE: Final = "docProps/core.xml"
_TITLE: Final = "{http://purl.org/dc/elements/1.1/}title"


def version() -> str:
    return f"2 mammoth {metadata.version('mammoth')} selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    with open_archive(file, "a Word document (.docx)") as archive:
        names = archive.namelist()
        for name in names:
            if name.endswith((".xml", ".rels")) and b"<!ENTITY" in read_member(archive, name):
                raise DocumentError("parse", "bomb", f"{name} defines entities, which no document needs")
        title = _title(read_member(archive, _CORE)) if _CORE in names else None
    file.seek(0)
    root = parse_html(_html(BytesIO(file.read())))  # mammoth would look at the name of a real file
    if root is not None:
        yield from (found for found in stretches(root) if isinstance(found, Stretch))
    yield About(title=title)


def _html(file: BinaryIO) -> str:
    import mammoth

    def no_picture(image: Any) -> dict[str, str]:
        return {}

    pictures = mammoth.images.img_element(no_picture)
    html: str = mammoth.convert_to_html(file, convert_image=pictures).value
    return html


def _title(core: bytes) -> str | None:
    from xml.etree import ElementTree

    try:
        text = ElementTree.fromstring(core).findtext(_TITLE)
    except ElementTree.ParseError:
        return None
    return " ".join(text.split()) or None if text else None
