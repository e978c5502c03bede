"""Records that must be unpacked (compressed, in columns), unpacked once a file and kept in the run directory.

One file holds all records of a source, each a line of JSON (name, metadata, a checksum) and its text, and at its end
the place of every record, so that opening one costs nothing but itself. If the source is damaged in the middle, the
records in front of the damage are there, and the error stands for those behind it. Knows nothing of formats.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pipeline.documents import DocumentRef
from pipeline.durable import TEMPORARY, Disk, NewFile, sha256_hex
from pipeline.errors import DocumentError
from pipeline.files import opened, refuse_changed
from pipeline.records import RecordDocument, record_document, refuse_changed_listing, wrong
from pipeline.sandbox import Limits, unpack

_TAIL: Final = struct.Struct("<QQ8s")  # where the places begin, how many there are, magic
_MAGIC: Final = b"unspool1"
_PAIR: Final = struct.Struct("<QQ")
_NONE: Final = "-1"
_RATIO: Final = 200


@dataclass(frozen=True)
class RecordStore:
    """Keeps unpacked records in a folder. Values only, so that it can be made wherever a worker runs."""

    folder: Path
    disk: Disk
    limits: Limits = field(default_factory=Limits)

    def open(self, ref: DocumentRef, version: str) -> RecordDocument:
        """One record, by its number. The file is unpacked now, unless it is. Raises DocumentError, OSError."""
        told = {key: value for key, value in ref.options.items() if key not in ("number", "place")}
        told["name"] = os.path.basename(ref.path)
        key = sha256_hex(json.dumps([ref.path, ref.mtime_ns, ref.reader, version, sorted(told.items())]).encode())
        path = self.folder / f"records-{key[:32]}.bin"
        with opened(ref.path) as source:
            status = os.fstat(source)
            if status.st_size == 0:
                raise DocumentError("open", "empty", "the file is empty")
            refuse_changed_listing(ref, status)
            if not path.exists():
                self._unpack(path, ref.reader, source, status, told)
        return _document(ref, path)

    def _unpack(self, path: Path, reader: str, source: int, status: os.stat_result, options: Mapping[str, str]) -> None:
        limits = replace(self.limits, output_bytes=max(self.limits.output_bytes, _RATIO * status.st_size))
        self.disk.make_folder(self.folder)
        temporary = path.with_name(f"{path.name}{TEMPORARY}{secrets.token_hex(6)}")
        try:
            with self.disk.create(temporary) as file:
                _write(file, unpack(reader, source, status.st_size, options, limits))
            refuse_changed(status, os.fstat(source))
            self.disk.rename(temporary, path)
        finally:
            self.disk.remove(temporary)


def _write(file: NewFile, found: Iterator[Mapping[str, Any]]) -> None:
    places = array("Q", [0])
    error = b""
    try:
        for record, text in _whole(found):
            data = text.encode("utf-8", "surrogatepass")
            file.write(json.dumps({**record, "crc32": zlib.crc32(data)}).encode() + b"\n")
            file.write(data)
            places.append(file.size)
    except DocumentError as failure:
        if failure.retryable:
            raise
        error = json.dumps(vars(failure)).encode()
    file.write(error)
    start = file.size
    if sys.byteorder == "big":
        places.byteswap()
    file.write(places.tobytes())
    file.write(_TAIL.pack(start, len(places) - 1, _MAGIC))


def _whole(found: Iterator[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Records with all of their text."""
    record: dict[str, Any] | None = None
    pieces: list[str] = []
    for line in found:
        if "text" in line:
            pieces.append(line["text"])
            continue
        if record is not None:
            yield record, "".join(pieces)
        record, pieces = line.get("record"), []


def _document(ref: DocumentRef, path: Path) -> RecordDocument:
    try:
        header, text = _stored(path, int(ref.options.get("number", _NONE)))
        record = json.loads(header)
        if record["crc32"] != zlib.crc32(text):
            raise ValueError("its checksum is another")
    except (ValueError, KeyError, struct.error, OSError) as error:
        path.unlink(missing_ok=True)  # so that the next try unpacks it anew
        message = f"the unpacked records {path.name} are damaged; run again to unpack them anew"
        raise DocumentError("read", "text_damaged", message, retryable=True) from error
    if record["refused"]:
        raise wrong(ref, record["refused"], record["metadata"])
    return record_document(ref, header + text, "utf-8", text.decode("utf-8", "surrogatepass"), record["metadata"])


def _stored(path: Path, number: int) -> tuple[bytes, bytes]:
    """The line and the text of a record. Raises DocumentError: there is none; and what a damaged file leads to."""
    with path.open("rb") as file:
        file.seek(-_TAIL.size, os.SEEK_END)
        places, count, magic = _TAIL.unpack(file.read(_TAIL.size))
        if magic != _MAGIC:
            raise ValueError("not a file of records")
        if not 0 <= number < count:
            file.seek(places + 8 * count)
            (end,) = struct.unpack("<Q", file.read(8))
            file.seek(end)
            raise _missing(file.read(places - end))
        file.seek(places + 8 * number)
        start, end = _PAIR.unpack(file.read(_PAIR.size))
        file.seek(start)
        header, _, text = file.read(end - start).partition(b"\n")
        return header, text


def _missing(error: bytes) -> DocumentError:
    """Why a record is not there: what stopped the unpacking, if anything did."""
    if error:
        return DocumentError(**json.loads(error))
    return DocumentError("open", "empty", "there are no records in this file")
