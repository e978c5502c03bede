"""Reading zip archives that may be bombs: sizes are checked as declared, and counted again while unpacking.

Nothing is ever written to disk, so names that lead elsewhere lead nowhere. Knows nothing of what the members hold.
"""

from __future__ import annotations

import zipfile
from typing import BinaryIO, Final

from pipeline.errors import DocumentError

_MEMBERS: Final = 10_000
_TOTAL_BYTES: Final = 512 << 20
_MEMBER_BYTES: Final = 64 << 20
_RATIO: Final = 200
_RATIO_COUNTS_FROM: Final = 4 << 20
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def open_archive(file: BinaryIO, what: str) -> zipfile.ZipFile:
    """A zip archive that is safe to read. Raises DocumentError: no zip, encrypted, a bomb. `what` is for messages."""
    head = file.read(8)
    file.seek(0)
    if head == _OLE:
        message = f"encrypted, or in the format of before 2007; save it as {what} without a password"
        raise DocumentError("parse", "encrypted", message)
    if not head.startswith(_ZIP):
        raise DocumentError("parse", "parse_error", f"not {what}: it is no zip archive")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DocumentError("parse", "parse_error", f"a damaged zip archive: {error}; fetch the file again") from error
    _refuse_bombs(archive.infolist())
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member, whole. Raises DocumentError."""
    try:
        with archive.open(name) as member:
            data = member.read(_MEMBER_BYTES + 1)
    except KeyError as error:
        raise DocumentError("parse", "parse_error", f"the archive has no {name}; it is incomplete") from error
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DocumentError("parse", "parse_error", f"{name} in the archive is damaged: {error}") from error
    if len(data) > _MEMBER_BYTES:
        raise _bomb(f"{name} unpacks to more than {_MEMBER_BYTES >> 20} MiB")
    return data


def _refuse_bombs(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MEMBERS:
        raise _bomb(f"{len(members):,} members")
    if any(member.flag_bits & 1 for member in members):
        raise DocumentError("parse", "encrypted", "members of the archive are encrypted; save it without a password")
    total = sum(member.file_size for member in members)
    if total > _TOTAL_BYTES:
        raise _bomb(f"it unpacks to {total >> 20:,} MiB")
    for member in members:
        if member.file_size > max(_RATIO_COUNTS_FROM, _RATIO * member.compress_size):
            raise _bomb(f"{member.filename} unpacks to {member.file_size // max(member.compress_size, 1):,} its size")


def _bomb(what: str) -> DocumentError:
    return DocumentError("parse", "bomb", f"looks like a zip bomb: {what}; nothing was unpacked")
