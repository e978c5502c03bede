"""Zip archives of documents (.zip), one level deep: each member is a document of its own, read as its name says.

Nothing is written to disk. Folders, hidden members and what macOS adds are passed over, as patterns over folders do.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO, Final

from pipeline.archives import open_archive
from pipeline.errors import DocumentError
from pipeline.extraction import Extraction
from pipeline.inner import extract_inner, versions
from pipeline.records import Member

SUFFIXES: Final = (".zip",)
_LOCAL_HEADER: Final = 30
_READ_BYTES: Final = 1 << 16
_DAMAGED: Final = (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError)


def version() -> str:
    return f"1 {versions()}"


def list_members(file: BinaryIO, options: Mapping[str, str]) -> Iterator[Member]:
    """The documents in an archive, in its order. Raises DocumentError."""
    with open_archive(file, "a zip archive") as archive:
        listed = [(number, info) for number, info in enumerate(archive.infolist()) if _is_document(info)]
        spans = {number: _span(file, info) for number, info in listed}
        in_order = sorted(spans.values())
        if any(later < end for (_, end), (later, _) in pairwise(in_order)):
            raise DocumentError(
                "parse", "bomb", "members of the archive overlap, as in zip bombs; nothing was unpacked"
            )
        seen: set[str] = set()
        for number, info in listed:
            start, end = spans[number]
            found = {"number": str(number), "inner": info.filename, "start": str(start), "end": str(end)}
            yield Member(_unused(info.filename, seen), info.file_size, {**options, **found})


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    if "number" not in options:
        list(list_members(file, options))
        raise DocumentError("open", "empty", "there are no documents in this archive")
    with open_archive(file, "a zip archive") as archive:
        info = archive.infolist()[int(options["number"])]
        _refuse_what_leads_elsewhere(info)
        yield from extract_inner(info.filename, _chunks(archive, info), options)


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as member:
            while chunk := member.read(_READ_BYTES):
                yield chunk
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DocumentError("parse", "parse_error", f"damaged in the archive: {reason}; fetch it again") from error


def _span(file: BinaryIO, info: zipfile.ZipInfo) -> tuple[int, int]:
    """The bytes of the archive that one member takes, its own header first."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if not header.startswith(b"PK\x03\x04") or len(header) < _LOCAL_HEADER:
        raise DocumentError("parse", "parse_error", "a damaged zip archive: a member is not where the list says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset, info.header_offset + _LOCAL_HEADER + names + info.compress_size


def _is_document(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    return not info.is_dir() and not any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts
    )


def _unused(name: str, seen: set[str]) -> str:
    """The name, or one made of it that no earlier member has."""
    number, free = 1, name
    while free in seen:
        number += 1
        free = f"{name}~{number}"
    seen.add(free)
    return free


def _refuse_what_leads_elsewhere(info: zipfile.ZipInfo) -> None:
    """Such a name would do no harm here, but whoever packed it meant some, and tables carry names on."""
    name = PureWindowsPath(info.filename)
    if ".." in name.parts or name.root or name.drive or "\0" in info.orig_filename:
        raise DocumentError("open", "path_outside_root", "its name leads out of the archive; pack it anew")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DocumentError("open", "special_file", "a symbolic link, not a document")
