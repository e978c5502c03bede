"""Writing files so that a crash or a power loss leaves each of them whole or absent; sums that detect later damage.

Every file is written under a temporary name, flushed to the disk and only then given its name; every folder
whose entries changed is flushed too. A failed flush is final: kernels mark the pages clean after it, so trying
again would report success for lost data. Tests make any of the named points fail or die (`Faults`), by values
that are handed in. Knows nothing of what the bytes mean, of runs or of ledgers.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pipeline.poison import Poisons

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TEMPORARY: Final = ".tmp-"
"""Stands in the name of everything that is not finished. No finished file or folder has it in its name."""

_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# What link() says where hard links do not exist (exFAT, some FUSE and SMB mounts).
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_HASH_BLOCK: Final = 1 << 20
_ZEROS: Final = 1 << 20
_POISONS: Final = "documents="
_SENT: Final = MappingProxyType({"kill": signal.SIGKILL, "stop": signal.SIGSTOP})


class Point(StrEnum):
    """The places at which a test may make the program fail. Each is reached between two steps of a protocol."""

    PUBLISH_BEFORE_RENAME = "publish.before_rename"
    PUBLISH_AFTER_RENAME = "publish.after_rename"
    COMMIT_BEFORE_LINK = "commit.before_link"
    COMMIT_AFTER_LINK = "commit.after_link"
    PART_BEFORE_WRITE = "part.before_write"
    PART_AFTER_WRITE = "part.after_write"
    CHECKPOINT_BEFORE_WRITE = "checkpoint.before_write"
    CHECKPOINT_AFTER_WRITE = "checkpoint.after_write"
    STATE_AFTER_LINK = "state.after_link"
    FINALIZE_AFTER_FILE = "finalize.after_file"
    FINALIZE_BEFORE_MANIFEST = "finalize.before_manifest"
    FINALIZE_BEFORE_RENAME = "finalize.before_rename"
    FINALIZE_MOVED_ASIDE = "finalize.moved_aside"
    FINALIZE_AFTER_RENAME = "finalize.after_rename"
    FINALIZE_AFTER_RECORD = "finalize.after_record"


@dataclass(frozen=True)
class Fault:
    """What happens the `nth` time (from 1) that `point` is reached: OSError(`error`), or `signal` if it is None."""

    point: Point
    nth: int
    error: int | None
    signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Faults:
    """The faults to inject, none outside of tests. `poisons` happen where documents are read, the others here."""

    planned: tuple[Fault, ...] = ()
    poisons: Poisons = field(default_factory=Poisons)

    @classmethod
    def none(cls) -> Faults:
        return cls()

    @classmethod
    def parse(cls, text: str) -> Faults:
        """From text such as `commit.before_link=kill@3;publish.before_rename=raise:ENOSPC@2`.

        Without `@n` the first time is meant; `stop` has the process stand still until it gets SIGCONT.
        `documents=segfault:URI,hang:URI,memory:URI` makes documents do harm.
        Raises ValueError with the piece that is wrong.
        """
        pieces = [piece.strip() for piece in text.split(";") if piece.strip()]
        poisons = ",".join(piece.removeprefix(_POISONS) for piece in pieces if piece.startswith(_POISONS))
        return cls(
            tuple(_fault(piece) for piece in pieces if not piece.startswith(_POISONS)),
            Poisons.parse(poisons),
        )


class NewFile(io.RawIOBase):
    """A file that is being written: bytes go to the disk and into a sha256 on the way. Made by `Disk.create`."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        _write_all(self._descriptor, view)
        self._digest.update(view)
        self.size += len(view)
        return len(view)


def flush(descriptor: int) -> None:
    """Have the disk itself hold what was written to a file or folder. After an OSError, trying again proves nothing."""
    if sys.platform == "darwin":
        # There fsync() stops at the drive's own cache. Network volumes know fsync() only.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


class Disk:
    """The only way in which runs change the disk. Counts how often each point was reached, for `Faults`.

    Tests that pull no plug may hand in a `flush` that does nothing: a killed process loses none of its writes.
    """

    locks: bool = True
    """Whether a lock on a file keeps everybody away who writes the same folder."""

    def __init__(self, faults: Faults | None = None, *, flush: Callable[[int], None] = flush) -> None:
        self._faults = faults or Faults.none()
        self._flush = flush
        self._reached: Counter[Point] = Counter()

    def reach(self, point: Point) -> None:
        """Say that execution is at `point`; a planned fault happens here."""
        self._reached[point] += 1
        for fault in self._faults.planned:
            if (fault.point, fault.nth) == (point, self._reached[point]):
                if fault.error is None:
                    os.kill(os.getpid(), fault.signal)
                else:
                    raise OSError(fault.error, f"{os.strerror(fault.error)} (injected at {point})")

    def publish(self, path: Path, data: bytes | memoryview) -> None:
        """Make `data` the content of `path`, at once and durably. What was there before is replaced.

        Raises OSError; then `path` is as it was, or already has the new content.
        """
        temporary = self._write_temporary(path, data)
        try:
            self.reach(Point.PUBLISH_BEFORE_RENAME)
            os.rename(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
        self.reach(Point.PUBLISH_AFTER_RENAME)
        self.sync_folder(path.parent)

    def put_if_absent(self, path: Path, data: bytes | memoryview) -> None:
        """Create `path` with `data`, durably; of all who try the same path exactly one succeeds.

        Raises FileExistsError if the name is taken, OSError for everything else. A reader never sees half of
        the data, except on file systems without hard links, where a crash can leave a torn file.
        """
        temporary = self._write_temporary(path, data)
        try:
            self.reach(Point.COMMIT_BEFORE_LINK)
            self._link_or_create(temporary, path, data)
            self.reach(Point.COMMIT_AFTER_LINK)
        finally:
            _unlink(temporary)
        self.sync_folder(path.parent)

    @contextmanager
    def create(self, path: Path) -> Iterator[NewFile]:
        """A new file to write piece by piece, flushed at the end. FileExistsError if the name is taken.

        For files inside a folder that is itself still temporary: after an error the file stays, and whoever
        made the folder removes it; nor is the folder flushed here.
        """
        descriptor = os.open(path, _NEW_FILE, 0o600)
        try:
            with _named(path):
                yield NewFile(descriptor)
                self._flush(descriptor)
        finally:
            os.close(descriptor)

    def reserve(self, path: Path, size: int) -> None:
        """Make a file that takes up so much room and holds nothing, unless it is there. Not flushed."""
        try:
            descriptor = os.open(path, _NEW_FILE, 0o600)
        except FileExistsError:
            return
        try:
            with _named(path):
                _allocate(descriptor, size)
        except BaseException:
            _unlink(path)
            raise
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """Make a folder (mode 0700), and those above it that are missing. A folder that is there stays as it is.

        Raises FileExistsError or NotADirectoryError if something else has the name, also if it is a link.
        """
        if not path.parent.exists():
            self.make_folder(path.parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
            return
        self.sync_folder(path.parent)

    def link(self, source: Path, path: Path) -> None:
        """Give the finished file `source` the second name `path`, replacing what has that name. Copies at need."""
        temporary = _temporary_name(path)
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self.publish(path, read_bytes(source))
            return
        try:
            os.rename(temporary, path)
        finally:
            _unlink(temporary)  # it is still there if both names were the same file already
        self.sync_folder(path.parent)

    def rename(self, source: Path, path: Path) -> None:
        """Rename a file or folder, durably."""
        os.rename(source, path)
        self.sync_folder(path.parent)
        if source.parent != path.parent:
            self.sync_folder(source.parent)

    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens if there is none. Not flushed: after a power loss it may be back."""
        _unlink(path)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and what is in it, never following links; nothing happens if there is none."""
        with suppress(FileNotFoundError):
            shutil.rmtree(path)

    def sync_folder(self, path: Path) -> None:
        """Make the entries of a folder durable: names given, changed and removed in it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._flush(descriptor)
        finally:
            os.close(descriptor)

    def _write_temporary(self, path: Path, data: bytes | memoryview) -> Path:
        temporary = _temporary_name(path)
        descriptor = os.open(temporary, _NEW_FILE, 0o600)
        try:
            try:
                with _named(path):
                    _write_all(descriptor, memoryview(data).cast("B"))
                    self._flush(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            _unlink(temporary)
            raise
        return temporary

    def _link_or_create(self, temporary: Path, path: Path, data: bytes | memoryview) -> None:
        try:
            os.link(temporary, path, follow_symlinks=False)
            return
        except FileExistsError:
            if os.stat(temporary).st_nlink > 1:
                return  # it is ours: on network file systems a request whose answer was lost is sent again
            raise
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        descriptor = os.open(path, _NEW_FILE, 0o600)
        try:
            # After an error the torn file stays: somebody may have seen it and set it aside already, and then a
            # removal by name would hit the file of whoever came next.
            _write_all(descriptor, memoryview(data).cast("B"))
            self._flush(descriptor)
        finally:
            os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """The whole of a regular file, read without following a link and never mapped into memory.

    Raises FileNotFoundError; OSError for links, folders, FIFOs and devices.
    """
    with _regular_file(path) as file:
        return file.read()


def forget_cached(path: Path) -> None:
    """Have a file come from the disk when it is read next: after a failed flush, memory may hold what no disk does.

    Nothing happens where the system cannot do that, or where there is no such file.
    """
    if sys.platform == "linux":
        with suppress(OSError), _regular_file(path) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sha256_hex(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path, most_bytes: int | None = None) -> str:
    """The sha256 of a regular file, or of its first bytes, in hex and in constant memory. Raises as `read_bytes`."""
    digest = hashlib.sha256()
    left = sys.maxsize if most_bytes is None else most_bytes
    with _regular_file(path) as file:
        while block := file.read(min(_HASH_BLOCK, left)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def json_line(value: Any) -> bytes:
    """A JSON value as one line in its canonical form: the same value always gives the same bytes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate has no UTF-8; written as the escape \udc80, which is JSON for it, it comes back unchanged.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def seal(lines: bytes) -> bytes:
    """`lines` (each ended by a newline) and one more line: the sha256 of all of them in hex."""
    return lines + sha256_hex(lines).encode("ascii") + b"\n"


def unseal(data: bytes) -> bytes:
    """The lines that `seal` was given. Raises ValueError if a byte of them or of the sum has changed."""
    lines, seal_line = data[:-65], data[-65:]
    if (lines and not lines.endswith(b"\n")) or seal_line != sha256_hex(lines).encode("ascii") + b"\n":
        raise ValueError("the sha256 line at the end does not match what stands before it")
    return lines


def _fault(piece: str) -> Fault:
    place, _, what = piece.partition("=")
    action, _, nth = what.partition("@")
    verb, _, name = action.partition(":")
    code = getattr(errno, name, None) if verb == "raise" else None
    known = place in set(Point) and (action in _SENT or isinstance(code, int))
    if not known or not (nth or "1").isdecimal() or int(nth or 1) < 1:
        points = ", ".join(Point)
        message = (
            f"{piece!r} is no fault; write POINT=kill@N, POINT=stop@N or POINT=raise:ERRNO@N with POINT from {points}"
        )
        raise ValueError(message)
    return Fault(Point(place), int(nth or 1), code, _SENT.get(action, signal.SIGKILL))


@contextmanager
def _regular_file(path: Path) -> Iterator[io.FileIO]:
    # Without O_NONBLOCK, opening a planted FIFO would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it is about in errors that know a descriptor only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{path.name}{TEMPORARY}{secrets.token_hex(6)}")


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _allocate(descriptor: int, size: int) -> None:
    """Have an empty file take up `size` bytes. Systems that cannot be asked for it (macOS) are given zeros to keep."""
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        allocate(descriptor, 0, size)
        return
    zeros = bytes(_ZEROS)
    for begin in range(0, size, _ZEROS):
        os.write(descriptor, zeros[: size - begin])


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
