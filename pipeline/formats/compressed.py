"""Texts compressed with gzip or zstd (`.txt.gz`, `.md.zst`, `.html.gz`, …): the suffix in front says what they are."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from io import BytesIO
from itertools import chain
from pathlib import PurePath
from typing import BinaryIO, Final

from pipeline.encodings import canonical, guess_around_errors, mark_of
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.files import refuse_other_kinds
from pipeline.formats import html, markdown, text

SUFFIXES: Final = (".gz", ".zst")
_READ_BYTES: Final = 1 << 16
_LOOKED_AT: Final = 1 << 20
_MOST_BYTES: Final = 2 << 30
_RATIO: Final = 200
_RATIO_COUNTS_FROM: Final = 64 << 20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_READABLE: Final = (*text.SUFFIXES, *markdown.SUFFIXES, *html.SUFFIXES)


def version() -> str:
    return f"2 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    name = PurePath(options["name"])
    inner = PurePath(name.stem).suffix.lower()
    if inner not in _READABLE:
        known = ", ".join(f"{suffix}{name.suffix}" for suffix in _READABLE)
        raise DocumentError("open", "unsupported_type", f"only texts are read compressed ({known}); unpack the file")
    chunks = _unpacked(file)
    if inner in html.SUFFIXES:
        yield from html.extract(BytesIO(b"".join(chunks)), options)
        return
    first, encoding = _first_and_encoding(chunks, options.get("encoding"))
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    texts = chain((decoder.decode(chunk) for chunk in chain([first], chunks)), _rest(decoder))
    replaced = 0
    for stretch in markdown.sections(texts) if inner in markdown.SUFFIXES else map(Stretch, texts):
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
    refuse_other_kinds(first)
    marked, start = mark_of(first)
    return first[start:], marked or canonical(wanted or "") or guess_around_errors(first)


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The content, a chunk at a time. Raises DocumentError: damaged, cut short, a bomb."""
    head, out = file.read(4), 0
    file.seek(0)
    if not head.startswith((_GZIP, _ZSTD)):
        raise DocumentError("parse", "parse_error", "neither gzip nor zstd data; give the file the suffix of its kind")
    try:
        for chunk in _gzip(file) if head.startswith(_GZIP) else _zstd(file):
            out += len(chunk)
            if out > _MOST_BYTES or out > max(_RATIO_COUNTS_FROM, _RATIO * file.tell()):
                raise DocumentError("parse", "bomb", f"unpacks to more than {out >> 20:,} MiB; unpack it by hand")
            yield chunk
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DocumentError("parse", "parse_error", f"damaged or cut short: {reason}; fetch the file again") from error


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    import gzip

    with gzip.GzipFile(fileobj=file) as unpacked:
        while chunk := unpacked.read(_READ_BYTES):
            yield chunk


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as unpacked:
        while chunk := unpacked.read(_READ_BYTES):
            yield chunk
