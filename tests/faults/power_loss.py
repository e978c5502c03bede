"""A disk that loses what was not flushed when the power goes.

The model is as unkind as POSIX allows. Of a file, what stood in it when it was last flushed is safe; what was written
since may be there, be cut short or be zeros. Of a folder, the entries at its last flush are safe; each name given,
changed or removed since may be as before or as now, whatever happened to its neighbours. So a rename whose folder was
not flushed may be undone, and the name of a file may survive while its content does not.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.durable import Disk, Point


class PowerCutError(BaseException):
    """The power is gone. No handler for errors may catch it."""


class FailingPower(Disk):
    """The disk below the folder `root` until the power goes, at the `cut`-th flush or named point from now on.

    What then survives is written to the folder `survivors`, before any code that cleans up can run.
    """

    def __init__(self, root: Path, survivors: Path, chance: random.Random, cut: int) -> None:
        super().__init__(flush=self._flushed)
        self._root = root
        self._survivors = survivors
        self._chance = chance
        self._left = cut
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._held: list[int] = []
        self._find_safe(root)

    def reach(self, point: Point) -> None:
        self._tick()

    def close(self) -> None:
        """Let go of the files: until then none of their numbers is used again."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = []

    def _find_safe(self, folder: Path) -> None:
        """Everything that is there at the beginning is safe."""
        for path in [folder, *folder.rglob("*")]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                self._note(descriptor)
            finally:
                os.close(descriptor)

    def _flushed(self, descriptor: int) -> None:
        self._tick()
        self._note(descriptor)

    def _note(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(facts.st_mode):
            self._entries[facts.st_ino] = entries_of(f"/proc/self/fd/{descriptor}")
        else:
            self._contents[facts.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            paths = {path.lstat().st_ino: path for path in [self._root, *self._root.rglob("*")]}
            self._write_survivors(self._root, self._survivors, paths)
            raise PowerCutError

    def _write_survivors(self, folder: Path, target: Path, paths: Mapping[int, Path]) -> None:
        """`paths`: where every file and folder stands now, by its number."""
        target.mkdir()
        now = entries_of(folder)
        before = self._entries.get(folder.stat().st_ino, {})
        for name in sorted(now.keys() | before.keys()):
            inode = self._chance.choice((before, now)).get(name)
            path = paths.get(inode) if inode is not None else None
            if path is not None and path.is_dir():
                self._write_survivors(path, target / name, paths)
            elif inode in self._entries:
                (target / name).mkdir()  # it was removed, and is back without what was removed from it
            elif inode is not None:
                content = path.read_bytes() if path is not None else b""
                (target / name).write_bytes(self._surviving(self._contents.get(inode), content))

    def _surviving(self, safe: bytes | None, now: bytes) -> bytes:
        if safe == now:
            return now
        cut = self._chance.randint(0, len(now))
        return self._chance.choice((safe or b"", now, now[:cut], now[:cut] + bytes(len(now) - cut)))


class ForgetfulPower(FailingPower):
    """The same for a program that never flushes: the control, with which documents must be lost."""

    def _flushed(self, descriptor: int) -> None:
        self._tick()


def entries_of(folder: Path | str) -> dict[str, int]:
    """The names in a folder and the numbers of what they stand for."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


DiskMaker = Callable[[Path, Path, random.Random, int], FailingPower]
