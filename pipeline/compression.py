"""Unpacking gzip and zstd data that may be a bomb: what comes out is counted against what went in.

Knows nothing of what the data hold.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.errors import DocumentError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIXES: Final = (".gz", ".zst")
_READ_BYTES: Final = 1 << 16
_MOST_BYTES: Final = 2 << 30
_RATIO: Final = 200
_RATIO_COUNTS_FROM: Final = 64 << 20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


def unpacked(file: BinaryIO, most_bytes: int = _MOST_BYTES) -> Iterator[bytes]:
    """The content, a chunk at a time. Raises DocumentError: damaged, cut short, a bomb, more than `most_bytes`."""
    head, out = file.read(4), 0
    file.seek(0)
    if not head.startswith((_GZIP, _ZSTD)):
        raise DocumentError("parse", "parse_error", "neither gzip nor zstd data; give the file the suffix of its kind")
    try:
        for chunk in _gzip(file) if head.startswith(_GZIP) else _zstd(file):
            out += len(chunk)
            if out > most_bytes or out > max(_RATIO_COUNTS_FROM, _RATIO * file.tell()):
                raise DocumentError("parse", "bomb", f"unpacks to more than {out >> 20:,} MiB; unpack it by hand")
            yield chunk
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DocumentError("parse", "parse_error", f"damaged or cut short: {reason}; fetch the file again") from error


def unpacked_file(file: BinaryIO, most_bytes: int) -> io.BufferedReader:
    """The content as a file that can be read once, from the beginning. Reading it raises as `unpacked`."""
    return io.BufferedReader(_Chunks(unpacked(file, most_bytes)), _READ_BYTES)


class _Chunks(io.RawIOBase):
    """A raw file of the chunks that an iterator gives."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._held = self._held or next(self._chunks, b"")
        view = memoryview(buffer)
        taken = self._held[: len(view)]
        view[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)


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
