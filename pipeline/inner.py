"""A document that lies inside of another file, compressed or in an archive: its name says which format reads it.

One level deep: what is itself an archive of documents is refused. Knows nothing of how the outer file is written.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from itertools import chain
from pathlib import PurePath
from types import ModuleType
from typing import Final

import pipeline.formats
from pipeline.encodings import canonical, guess_around_errors, mark_of
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.files import refuse_other_kinds
from pipeline.folder import entries

LARGEST: Final = 64 << 20
_LOOKED_AT: Final = 1 << 20
_NUL_SHARE: Final = 0.1


def parsed_formats() -> dict[str, ModuleType]:
    """The formats that can parse a document from memory: one document a file, nothing packed."""
    formats = entries(pipeline.formats.__name__)
    outer = ("list_members", "records", "IS_OUTER")
    return {n: m for n, m in formats.items() if hasattr(m, "extract") and not any(hasattr(m, name) for name in outer)}


def versions() -> str:
    """Changes whenever the text may that some format finds in a document inside of another file."""
    return " ".join(f"{name} {module.version()}" for name, module in parsed_formats().items())


def extract_inner(name: str, chunks: Iterator[bytes], options: Mapping[str, str]) -> Extraction:
    """The text of a document given as chunks of bytes, as its name says. Raises DocumentError."""
    suffix = PurePath(name).suffix.lower()
    formats = entries(pipeline.formats.__name__)
    if suffix in (*formats["text"].SUFFIXES, *formats["markdown"].SUFFIXES):
        yield from _extract_text(suffix, chunks, options)
        return
    module = next((one for one in parsed_formats().values() if suffix in one.SUFFIXES), None)
    if module is not None:
        yield from module.extract(BytesIO(_joined(chunks)), {**options, "name": name})
        return
    if any(suffix in one.SUFFIXES for one in formats.values()):
        message = f"{suffix} inside of another file: only one level is unpacked; unpack it by hand"
        raise DocumentError("open", "nested_archive", message)
    raise DocumentError("open", "unsupported_type", f"no reader for {suffix or 'a name without a suffix'} in there")


def _extract_text(suffix: str, chunks: Iterator[bytes], options: Mapping[str, str]) -> Extraction:
    from pipeline.formats import markdown

    first, encoding = _first_and_encoding(chunks, options.get("encoding"))
    _refuse_what_is_no_text(first, encoding)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    texts = chain((decoder.decode(chunk) for chunk in chain([first], chunks)), _rest(decoder))
    replaced = 0
    for stretch in markdown.sections(texts) if suffix in markdown.SUFFIXES else map(Stretch, texts):
        replaced += stretch.text.count("\ufffd")
        yield stretch
    yield About(encoding, replaced)


def _rest(decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    yield decoder.decode(b"", final=True)


def _first_and_encoding(chunks: Iterator[bytes], wanted: str | None) -> tuple[bytes, str]:
    """The first bytes behind a byte order mark, and the encoding: what can be told from the first MiB."""
    first = b""
    while len(first) < _LOOKED_AT and (chunk := next(chunks, b"")):
        first += chunk
    marked, start = mark_of(first)
    return first[start:], marked or canonical(wanted or "") or guess_around_errors(first)


def _refuse_what_is_no_text(first: bytes, encoding: str) -> None:
    refuse_other_kinds(first[:8])
    if not encoding.startswith(("utf-16", "utf-32")) and first.count(0) > _NUL_SHARE * len(first):
        raise DocumentError("decode", "binary_not_text", f"{first.count(0):,} of the first bytes are NUL: not text")


def _joined(chunks: Iterable[bytes]) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST:
            message = f"more than {LARGEST >> 20} MiB once unpacked; unpack the file by hand"
            raise DocumentError("parse", "too_large", message)
    return bytes(data)
