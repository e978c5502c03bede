"""The ledger of a run: numbered records, each naming the hash of the one before; the only truth about what is done.

A record becomes part of the ledger by taking the next number with put-if-absent. Taking over a run is itself a
record (a new epoch), so of two drivers the one that comes late collides at its next record and stops: that is the
fence, and no lock or clock takes part in it. What records are: jobs/records.py. Knows nothing of documents' content,
workers or tables.

Order of a run: `RunLedger.read` → `RunLedger.take_over` → `commit`, `commit`, …
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from jobs.errors import ExitCode, JobError
from jobs.records import (
    Attempt,
    Done,
    Entry,
    Epoch,
    Finished,
    Invalidate,
    Numerics,
    Output,
    Quarantine,
    Record,
    Rows,
    SpecNote,
    finished_by,
)
from pipeline.durable import Disk, read_bytes, sha256_hex, unseal

_DISK_IS_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RECORD: Final = "0" * 64


class LedgerView:
    """What the records say, taken together. Read with `RunLedger.read`; a `RunLedger` keeps its own up to date."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seq = 0
        self.epoch = 0
        self.previous = _NO_RECORD
        self.owner: Epoch | None = None
        self.final: Output | None = None
        self.torn: Path | None = None
        self._done: dict[str, Finished] = {}
        self._quarantined: dict[str, Quarantine] = {}
        self._attempts: dict[str, int] = {}
        self._growing: dict[str, Rows] = {}
        self._numerics: dict[str, Mapping[str, str]] = {}
        self.spec_changes: tuple[str, ...] = ()

    @property
    def done(self) -> Mapping[str, Finished]:
        """Documents that were read, by id."""
        return MappingProxyType(self._done)

    @property
    def quarantined(self) -> Mapping[str, Quarantine]:
        """Documents that were given up, by id."""
        return MappingProxyType(self._quarantined)

    @property
    def attempts(self) -> Mapping[str, int]:
        """How often each unfinished document took its worker down, by id."""
        return MappingProxyType(self._attempts)

    @property
    def growing(self) -> Mapping[str, Rows]:
        """All rows so far of each unfinished document that is followed, by id."""
        return MappingProxyType(self._growing)

    @property
    def numerics(self) -> Mapping[str, Mapping[str, str]]:
        """The numeric fingerprints that were reported, in the order of the first report, and what came with them."""
        return MappingProxyType(self._numerics)

    def finished(self, doc_id: str) -> Finished | None:
        """What is committed of a document, be it done or quarantined."""
        if doc_id in self._quarantined:
            return self._quarantined[doc_id].document
        return self._done.get(doc_id)

    def finished_ids(self) -> frozenset[str]:
        return frozenset(self._done) | frozenset(self._quarantined)

    def parts(self) -> frozenset[str]:
        """The paths of all parts that the ledger refers to, relative to the run directory."""
        documents = [*self._done.values(), *(entry.document for entry in self._quarantined.values())]
        finished = {part.path for document in documents for part in document.parts}
        return frozenset(finished | {part.path for rows in self._growing.values() for part in rows.parts})

    def check(self, entry: Entry) -> None:
        """Raise ValueError if `entry` cannot be the next record: wrong place, or a document finished twice."""
        if (entry.seq, entry.previous) != (self.seq + 1, self.previous):
            raise ValueError(f"record {entry.seq} does not continue record {self.seq}")
        if entry.epoch != self.epoch + isinstance(entry.record, Epoch):
            raise ValueError(f"a {entry.record.kind} record of epoch {entry.epoch} in epoch {self.epoch}")
        ids = [document.doc_id for document in finished_by(entry.record)]
        if isinstance(entry.record, Rows) and self.finished(entry.record.doc_id):
            raise ValueError(f"document {entry.record.doc_id} has grown, but it is finished")
        twice = sorted({doc for doc in ids if self.finished(doc) or ids.count(doc) > 1})
        if twice:
            raise ValueError(f"document {twice[0]} is committed twice")

    def apply(self, entry: Entry, digest: str) -> None:
        """Take `entry` into account; `digest` is the sha256 of its file. Raises ValueError as `check` does."""
        self.check(entry)
        self.seq, self.epoch, self.previous = entry.seq, entry.epoch, digest
        match entry.record:
            case Epoch():
                self.owner = entry.record
            case Done(documents):
                self._finish({document.doc_id: document for document in documents}, {})
            case Quarantine(document):
                self._finish({}, {document.doc_id: entry.record})
            case Rows(doc_id, parts):
                before = self._growing.get(doc_id)
                self._growing[doc_id] = replace(entry.record, parts=(*(before.parts if before else ()), *parts))
                self._attempts.pop(doc_id, None)
            case Attempt(doc_id, number):
                self._attempts[doc_id] = number
            case Invalidate(doc_ids):
                self._forget(doc_ids)
            case Numerics(fingerprint, facts):
                self._numerics.setdefault(fingerprint, facts)
            case SpecNote(changes):
                self.spec_changes = changes
            case Output():
                self.final = entry.record

    def _finish(self, done: Mapping[str, Finished], quarantined: Mapping[str, Quarantine]) -> None:
        self._done.update(done)
        self._quarantined.update(quarantined)
        for doc_id in (*done, *quarantined):
            self._attempts.pop(doc_id, None)
            self._growing.pop(doc_id, None)
        self.final = None

    def _forget(self, doc_ids: tuple[str, ...]) -> None:
        for doc_id in doc_ids:
            self._done.pop(doc_id, None)
            self._quarantined.pop(doc_id, None)
            self._attempts.pop(doc_id, None)
            self._growing.pop(doc_id, None)
        self.final = None


class RunLedger:
    """The one writer of a ledger, for one epoch. `view` is what the ledger says after the last commit."""

    def __init__(self, view: LedgerView, disk: Disk, epoch: int, reserve: Path | None = None) -> None:
        self.view = view
        self.epoch = epoch
        self._disk = disk
        self._reserve = reserve

    @staticmethod
    def read(folder: Path) -> LedgerView:
        """Read all records in `folder`.

        The last record may be torn: it is left out, and named in `view.torn` for `take_over` to set aside.
        Raises JobError RUN-LEDGER-DAMAGED (exit 6) that names the record for every other damage, gaps included.
        """
        view = LedgerView(folder)
        while True:
            while view.torn is None and (data := _read_if_there(_record_path(folder, view.seq + 1))) is not None:
                _take_in(view, data)
            newest = _newest_listed(folder)
            if newest <= view.seq + (view.torn is not None):
                return view
            # Records are only ever added in order, so what the listing shows can have come since the loop
            # above, but not without the ones before it.
            if view.torn is not None or not _record_path(folder, view.seq + 1).exists():
                state = "damaged" if view.torn is not None else "missing"
                raise _damaged(folder, view.seq + 1, f"it is {state}, but records up to {newest} follow")

    @classmethod
    def take_over(
        cls, view: LedgerView, disk: Disk, quarantine: Path, owner: Epoch, reserve: Path | None = None
    ) -> RunLedger:
        """Become the one writer: commit `owner` as a new epoch behind the records in `view`.

        A torn last record is first moved into the folder `quarantine`. The file `reserve` is removed once the disk is
        full, to make room for a last record. Raises JobError RUN-TAKEN-OVER (exit 5)
        if another driver was faster.
        """
        if view.torn is not None:
            _set_aside(view, disk, quarantine)
        ledger = cls(view, disk, view.epoch + 1, reserve)
        ledger.commit(owner)
        return ledger

    def commit(self, record: Record) -> None:
        """Make `record` the next one, durably; when this returns, it is a fact.

        Raises JobError RUN-TAKEN-OVER (exit 5) if another driver owns the run now; ValueError if a document would
        be finished twice, or if the record's values are not of the types that it declares; OSError if the disk
        fails (then nobody knows whether the record is there until the ledger is read again).
        """
        entry = Entry(self.view.seq + 1, self.epoch, self.view.previous, record)
        self.view.check(entry)
        data = entry.to_bytes()
        entry = Entry.from_line(unseal(data))  # before it is written: what cannot be read must not get there
        path = _record_path(self.view.folder, entry.seq)
        try:
            self._put(path, data)
        except (FileExistsError, FileNotFoundError):
            # Not found: who took the run over has already cleared away our unfinished file.
            if not path.exists():
                raise
            raise self._fenced(path) from None
        self.view.apply(entry, sha256_hex(data))

    def _put(self, path: Path, data: bytes) -> None:
        try:
            self._disk.put_if_absent(path, data)
        except OSError as error:
            if error.errno not in _DISK_IS_FULL or self._reserve is None or not self._reserve.exists():
                raise
            # Under another name and from the beginning. Should the record be there already, this one is refused.
            self._disk.remove(self._reserve)
            self._disk.put_if_absent(path, data)

    def _fenced(self, path: Path) -> JobError:
        try:
            found = Entry.from_line(unseal(read_bytes(path)))
        except (OSError, ValueError):
            return _taken_over(path, "another driver")
        if found.epoch == self.epoch and not isinstance(found.record, Epoch):
            message = "an earlier write of this record was reported as failed, but it is there; run again to resume"
            return JobError("RUN-WRITE-FAILED", message, exit_code=ExitCode.ENVIRONMENT, where=str(path))
        by = f", process {found.record.pid} on host {found.record.host}" if isinstance(found.record, Epoch) else ""
        return _taken_over(path, f"epoch {found.epoch}{by}")


def _record_path(folder: Path, seq: int) -> Path:
    return folder / f"{seq:08d}.json"


def _read_if_there(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def _take_in(view: LedgerView, data: bytes) -> None:
    path = _record_path(view.folder, view.seq + 1)
    try:
        line = unseal(data)
    except ValueError:
        view.torn = path
        return
    try:
        view.apply(Entry.from_line(line), sha256_hex(data))
    except ValueError as error:
        raise _damaged(view.folder, view.seq + 1, str(error)) from error


def _newest_listed(folder: Path) -> int:
    numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()]
    return max(numbers, default=0)


def _set_aside(view: LedgerView, disk: Disk, quarantine: Path) -> None:
    torn = _record_path(view.folder, view.seq + 1)
    aside = quarantine / f"{torn.stem}-{secrets.token_hex(4)}.json"
    try:
        disk.rename(torn, aside)
        unseal(read_bytes(aside))
    except (FileNotFoundError, ValueError):
        view.torn = None
        return
    # Another driver set the torn record aside before us, and this is what it wrote in its place.
    disk.link(aside, torn)
    raise _taken_over(torn, "another driver")


def _damaged(folder: Path, seq: int, what: str) -> JobError:
    message = f"the ledger is damaged at record {seq}: {what}; nothing was changed, restore this file from a copy"
    where = str(_record_path(folder, seq))
    return JobError("RUN-LEDGER-DAMAGED", message, exit_code=ExitCode.ENVIRONMENT, where=where)


def _taken_over(path: Path, by: str) -> JobError:
    message = f"the run was taken over by {by}; this process stops, everything it had committed is kept"
    return JobError("RUN-TAKEN-OVER", message, exit_code=ExitCode.OTHER_RUNNER, where=str(path))
