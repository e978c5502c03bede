"""A folder that is kept on an object store: every change is made there before it is made here.

What is here is a copy, for reading, that may be thrown away: `bring_here` makes it anew. Of the names that must be
given to one only, the store decides, by a conditional put. Temporary files, logs, what can be fetched again and what
a process says of itself stay here alone. Knows nothing of what the files mean.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.durable import TEMPORARY, Disk, Faults, Point, read_bytes
from pipeline.last_words import READING
from pipeline.object_store import Object, Store, StoreError

_LOCAL: Final = frozenset({"LOCK", "_reserve", "events.jsonl", "metrics.jsonl"})
_OF_THIS_MACHINE: Final = ("text/fetched-", "text/records-", f"quarantine/{READING}")
# Their names are unique or hold a hash, or the ledger has one that is looked at before they are used.
_NEVER_CHANGED: Final = ("parts/", "checkpoints/", "text/", "ledger/", "inputs/", "output/", "states/")


class StoreDisk(Disk):
    """The folder `root`, kept on `store`. What the store refuses is raised as StoreError, an OSError."""

    locks = False

    def __init__(self, root: Path, store: Store, faults: Faults | None = None) -> None:
        super().__init__(faults, flush=lambda _: None)  # what must last lies on the store
        self._root = Path(os.path.abspath(root))
        self._store = store

    def publish(self, path: Path, data: bytes | memoryview) -> None:
        """As `Disk.publish`, on the store first."""
        if name := self._name(path):
            self._store.put(name, data)
        super().publish(path, data)

    def put_if_absent(self, path: Path, data: bytes | memoryview) -> None:
        """As `Disk.put_if_absent`: the store decides whose data the name gets, and that is here afterwards."""
        name = self._name(path)
        if name is None:
            super().put_if_absent(path, data)
            return
        self.reach(Point.COMMIT_BEFORE_LINK)
        try:
            self._store.put_if_absent(name, data)
        except FileExistsError:
            super().publish(path, self._store.get(name))
            raise
        self.reach(Point.COMMIT_AFTER_LINK)
        super().publish(path, data)

    def link(self, source: Path, path: Path) -> None:
        """As `Disk.link`, as a copy on the store."""
        if name := self._name(path):
            self._store.put(name, source)
        super().link(source, path)

    def rename(self, source: Path, path: Path) -> None:
        """As `Disk.rename`. A folder gets to the store file by file, those with an underscore in front last."""
        for found in self._files(source):
            if name := self._name(path / found.relative_to(source)):
                self._store.put(name, found)
        self._forget(source)
        super().rename(source, path)

    def remove(self, path: Path) -> None:
        """As `Disk.remove`."""
        if os.path.lexists(path):
            self._forget(path)
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        """As `Disk.remove_tree`."""
        self._forget(path)
        super().remove_tree(path)

    def _forget(self, path: Path) -> None:
        """Remove what lies at or below a path from the store, in the reverse order of `rename`."""
        for found in reversed(list(self._files(path))):
            if name := self._name(found):
                self._store.remove(name)

    def _name(self, path: Path) -> str | None:
        """The name of a file on the store; None: it is not kept there."""
        path = Path(os.path.abspath(path))
        return _kept(path.relative_to(self._root).as_posix()) if path.is_relative_to(self._root) else None

    @staticmethod
    def _files(path: Path) -> Iterator[Path]:
        if not path.is_dir() or path.is_symlink():
            yield path
            return
        found = (one for one in path.rglob("*") if not one.is_dir())
        yield from sorted(found, key=lambda one: (one.name.startswith("_"), one == path / "run.json", one))


def disk_of(root: Path, address: str, faults: Faults) -> Disk:
    """What writes the folder `root`: it is kept at an address, or here alone if that is empty."""
    return StoreDisk(root, Store.open(address), faults) if address else Disk(faults)


def bring_here(root: Path, store: Store) -> None:
    """Make `root` a copy of what the store has. Raises StoreError; FileExistsError if that is no run directory."""
    objects = {name: found for name, found in store.objects().items() if TEMPORARY not in name}
    _refuse_others(store, objects)
    if not _same(root / "run.json", store, objects):
        with suppress(FileNotFoundError):
            shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in [path for path in root.rglob("*") if not path.is_dir()]:
        name = path.relative_to(root).as_posix()
        if _kept(name) and name not in objects:
            path.unlink()
    disk = Disk(flush=lambda _: None)
    for name, found in objects.items():
        path = root / name
        if not (name.startswith(_NEVER_CHANGED) and path.is_file() and path.stat().st_size == found.size):
            disk.make_folder(path.parent)
            disk.publish(path, store.get(name))


def _refuse_others(store: Store, objects: dict[str, Object]) -> None:
    if objects and "run.json" not in objects:
        raise FileExistsError(None, f"it holds other things ({min(objects)}) and no run.json", store.address)
    for name in objects:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise StoreError(None, f"the name {name!r} leads out of the run directory", store.address)


def _same(path: Path, store: Store, objects: dict[str, Object]) -> bool:
    try:
        return path.name in objects and read_bytes(path) == store.get(path.name)
    except FileNotFoundError:
        return False


def _kept(name: str) -> str | None:
    local = TEMPORARY in name or name in _LOCAL or name.startswith(_OF_THIS_MACHINE)
    return None if local else name
