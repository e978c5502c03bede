"""Files on object stores: `s3://`, `gs://`, `hdfs://` by pyarrow, `hf://` by fsspec. Listed there, fetched to be read.

Credentials come from where the store's own tools look for them (environment, profile, metadata service) and from
nowhere else, so an address never holds any. A fetched file lies in the run directory under its own name, with the size
and the time that it was listed with. Knows nothing of formats or patterns.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.documents import DocumentRef
from pipeline.durable import TEMPORARY, Disk, sha256_hex
from pipeline.errors import DocumentError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow.fs

SCHEMES: Final = ("s3", "gs", "hdfs", "hf")
_ADDRESS: Final = re.compile(rf"({'|'.join(SCHEMES)})://(.*)", re.DOTALL)
_CHUNK_BYTES: Final = 1 << 20
_WORDS: Final = re.compile(r"not found|no such|does not exist|404|nosuchkey|nosuchbucket", re.IGNORECASE)
_DENIED: Final = re.compile(r"access.?denied|forbidden|403|401|unauthorized|credential", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFile:
    """A file as its store lists it. `address` begins with the scheme."""

    address: str
    size: int
    mtime_ns: int


def is_remote(path: str) -> bool:
    """Whether this is an address on a store, not a path on this machine."""
    return _ADDRESS.fullmatch(path) is not None


def look(address: str) -> RemoteFile | None:
    """The file at an address, or None: there is none. Raises DocumentError, MissingExtraError."""
    import pyarrow.fs as fs

    with _said_as_document_error():
        store, path = _store(address)
        info = store.get_file_info(path)
    return _file(address, info) if info.type == fs.FileType.File else None


def walk(folder: str, deepest: int | None) -> Iterator[RemoteFile]:
    """The files below an address, `deepest` levels (None: all). Raises DocumentError, MissingExtraError."""
    import pyarrow.fs as fs

    with _said_as_document_error():
        store, path = _store(folder)
    pending = [(path.rstrip("/"), 1)]
    while pending:
        here, depth = pending.pop()
        with _said_as_document_error():
            found = store.get_file_info(fs.FileSelector(here, allow_not_found=True, recursive=deepest is None))
        for info in found:
            if info.type == fs.FileType.File:
                below = info.path.lstrip("/").removeprefix(path.strip("/"))
                yield _file(folder.rstrip("/") + below, info)
            elif deepest is not None and depth < deepest:
                pending.append((info.path, depth + 1))


def fetched(ref: DocumentRef, folder: Path, disk: Disk) -> DocumentRef:
    """The reference to a copy of a remote file in `folder`, made unless it is there. Raises DocumentError, OSError."""
    key = sha256_hex(f"{ref.path}\0{ref.mtime_ns}".encode())[:32]
    path = folder / f"fetched-{key}" / PurePosixPath(ref.path).name
    if not path.exists():
        disk.make_folder(path.parent)
        temporary = path.with_name(f"{path.name[:64]}{TEMPORARY}{secrets.token_hex(6)}")
        try:
            _fetch(ref, temporary, disk)
            os.utime(temporary, ns=(ref.mtime_ns, ref.mtime_ns))
            disk.rename(temporary, path)
        finally:
            disk.remove(temporary)
    return replace(ref, path=str(path))


def _fetch(ref: DocumentRef, path: Path, disk: Disk) -> None:
    with _said_as_document_error():
        store, source = _store(ref.path)
        before = look(ref.path)
    if before is None:
        message = "the file is gone since the inputs were listed; run again once it is back"
        raise DocumentError("open", "missing", message, retryable=True)
    with _said_as_document_error():
        stream = store.open_input_stream(source)
    with stream, disk.create(path) as file:
        while chunk := _next(stream, file.tell()):
            file.write(chunk)
        size = file.tell()
    if look(ref.path) != before or size != before.size or not _is_as_listed(ref, before):
        message = "the file has changed since the inputs were listed; start a run of its own for what it holds now"
        raise DocumentError("read", "changed_during_read", message)


def _is_as_listed(ref: DocumentRef, now: RemoteFile) -> bool:
    """Whether time and size are those of the listing: stores keep whole seconds, so the time alone says too little."""
    is_whole_file = ref.uri == ref.path  # of a document in a file of many, `size` is its own
    return now.mtime_ns == ref.mtime_ns and (now.size == ref.size or not is_whole_file)


def _next(stream: Any, position: int) -> bytes:
    try:
        data: bytes = stream.read(_CHUNK_BYTES)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        message = f"cannot be fetched: {reason}; run again"
        raise DocumentError("read", "io_error", message, byte_offset=position, retryable=True) from error
    return data


@contextmanager
def _said_as_document_error() -> Iterator[None]:
    """What a store refuses. Its messages name bucket and key, never credentials."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        what = "missing" if isinstance(error, FileNotFoundError) or _WORDS.search(reason) else "io_error"
        what = "permission" if isinstance(error, PermissionError) or _DENIED.search(reason) else what
        raise DocumentError(
            "open", what, f"the store says: {reason}; see to it and run again", retryable=True
        ) from error


def _file(address: str, info: pyarrow.fs.FileInfo) -> RemoteFile:
    return RemoteFile(address, info.size or 0, info.mtime_ns or 0)


def _store(address: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The store that an address names, and the path there."""
    import pyarrow.fs as fs

    scheme, _, path = address.partition("://")
    if scheme == "s3":
        return fs.S3FileSystem(endpoint_override=os.environ.get("AWS_ENDPOINT_URL")), path
    if scheme != "hf":
        top, _, rest = path.partition("/")
        return fs.FileSystem.from_uri(f"{scheme}://{top}/")[0], f"/{rest}" if scheme == "hdfs" else path
    missing = [name for name in ("fsspec", "huggingface_hub") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"hf:// needs {', '.join(missing)}: pip install 'unspool[cloud]'")
    import fsspec

    return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), path
