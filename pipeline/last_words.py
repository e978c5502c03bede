"""What a process says of its own end: a file that gets the reason and Python's stack should the process crash.

A worker in a process of its own is outlived by the driver, which looks into that file at once. Where documents are
read in the driver's own process nobody is left to look, so that file also says which documents they are, and the next
life of the run reads it. A process that is killed from outside writes nothing: then no document is to blame. Knows
nothing of how often a document may be tried.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.durable import Disk

READING: Final = "reading-"
"""How the names of the files begin in which a process says what it reads; those with a crash are renamed."""

_CRASHED: Final = "worker-"
_CRASH: Final = "Fatal Python error: "
_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Crash:
    """Why a process crashed, and the ids of the documents that it was reading."""

    reason: str
    doc_ids: tuple[str, ...]


def new_name(folder: Path) -> Path:
    """A name for the file of a worker in a process of its own."""
    return folder / f"{_CRASHED}{secrets.token_hex(6)}.txt"


def reason_in(path: Path) -> str:
    """Why a worker's process crashed, as it says itself. The file of one that says nothing is removed."""
    with contextlib.suppress(OSError, ValueError):
        if reason := path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]:
            return reason.removeprefix(_CRASH)
        path.unlink()
    return ""


class Diary:
    """Says which documents this process reads, in a file in `folder`, from the first one until it is closed.

    Where the file cannot be made, or the program that this is a part of has its own use for Python's fault handler,
    nothing is written: that is no reason to read nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{READING}{secrets.token_hex(6)}.txt"
        self._descriptor: int | None = None
        self._reading: tuple[str, ...] = ()
        if not faulthandler.is_enabled():
            with contextlib.suppress(OSError):
                self._descriptor = os.open(self._path, _NEW_FILE, 0o600)
                os.write(self._descriptor, b"\n")
                faulthandler.enable(self._descriptor)

    def reads(self, doc_ids: Iterable[str]) -> None:
        """From now on it reads these documents."""
        reading = tuple(sorted(doc_ids))
        if self._descriptor is None or reading == self._reading:
            return
        self._reading = reading
        with contextlib.suppress(OSError):  # a full disk is noticed where what counts is written
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{' '.join(reading)}\n".encode("ascii"))

    def close(self) -> None:
        """The process goes on without reading. The file is removed."""
        if self._descriptor is not None:
            faulthandler.disable()
            os.close(self._descriptor)
            self._descriptor = None
            with contextlib.suppress(OSError):
                self._path.unlink()


def take_crashes(folder: Path, disk: Disk) -> Iterator[Crash]:
    """What processes have written here that are gone; each crash is found once. Raises OSError.

    Its stack stays, under another name. A process that comes to its end between the two has its crash forgotten, so
    that none is ever counted twice. To be called by who holds the run.
    """
    for path in sorted(folder.glob(f"{READING}*.txt")):
        crash = _crash_in(path)
        if crash is None:
            disk.remove(path)
        else:
            disk.rename(path, path.with_name(path.name.replace(READING, _CRASHED)))
            yield crash


def _crash_in(path: Path) -> Crash | None:
    with contextlib.suppress(OSError):
        said = path.read_text(encoding="utf-8", errors="replace").splitlines()
        reason = next((line.removeprefix(_CRASH) for line in said if line.startswith(_CRASH)), "")
        return Crash(reason, tuple(said[0].split())) if reason else None
    return None
