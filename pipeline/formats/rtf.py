"""Rich Text Format (.rtf), in the encodings that it names itself. Pictures and styles are left out, sections too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch

SUFFIXES: Final = (".rtf",)
_LARGEST: Final = 64 << 20
_TITLE: Final = re.compile(r"\{\\title ([^{}\\]*)\}")
_BINARY: Final = re.compile(rb"\\bin\d")


def version() -> str:
    return f"1 striprtf {metadata.version('striprtf')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise DocumentError("parse", "too_large", f"more than {_LARGEST >> 20} MiB of RTF; remove its pictures")
    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentError("parse", "parse_error", "not RTF: it does not begin with {\\rtf")
    if _BINARY.search(data):
        raise DocumentError("parse", "parse_error", "RTF with raw binary data (\\bin); save it anew or as .docx")
    source = data.decode("cp1252", "replace")
    text = _paired(_plain(source))
    yield Stretch(text.strip())
    title = _TITLE.search(source)
    yield About(decode_errors=text.count("\ufffd"), title=" ".join(title[1].split()) or None if title else None)


def _plain(source: str) -> str:
    from striprtf import striprtf

    read: Callable[..., str] = striprtf.rtf_to_text
    return read(source, errors="replace")


def _paired(text: str) -> str:
    """Characters beyond the first 65,536 come as two halves."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
