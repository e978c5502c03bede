"""The run directory: where everything of a run lies, who may write there, and what may be thrown away.

`run.json` says once and for all what the run is; its presence makes a folder a run directory. The lock is for
polite messages only: what keeps two drivers apart is the ledger. Knows nothing of what the files hold.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from jobs.errors import ExitCode, JobError, usage_error
from pipeline.durable import TEMPORARY, Disk, json_line, read_bytes, seal, unseal

FORMAT_MAJOR: Final = 1
FORMAT_MINOR: Final = 1
LEAST_FREE_BYTES: Final = 256 << 20
RESERVE_BYTES: Final = 16 << 20

_FOLDERS: Final = (
    "inputs",
    "text",
    "ledger",
    "checkpoints",
    "parts",
    "states",
    "quarantine",
    "quarantine/ledger",
)
_COLLECTED: Final = ("checkpoints", "parts")
_EPOCH_IN_NAME: Final = re.compile(r"-e(\d+)a\d+-")


@dataclass(frozen=True)
class RunInfo:
    """What a run is, from its first moment to its last. `root` is the folder that input URIs are relative to.

    `dtype` is what the job's `auto` was found to stand for; runs older than that are in float32.
    """

    run_id: str
    root: str
    spec: Mapping[str, Any]
    spec_fp: str
    model_fp: str
    tokenizer_fp: str
    versions: Mapping[str, str]
    created_utc: str
    dtype: str = "fp32"

    def to_bytes(self) -> bytes:
        return seal(json_line({"format": {"major": FORMAT_MAJOR, "minor": FORMAT_MINOR}, **asdict(self)}))


class RunDirectory:
    """A run directory that exists. Made by `create` or `open`."""

    def __init__(self, path: Path, disk: Disk, info: RunInfo) -> None:
        self.path = path
        self.disk = disk
        self.info = info

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a run at `path`, damaged or not."""
        return os.path.lexists(path / "run.json")

    @classmethod
    def create(cls, path: Path, disk: Disk, info: RunInfo) -> RunDirectory:
        """Make a run directory. The manifest is not part of it yet.

        Raises JobError: exit 6 if the place cannot be written, is a file, holds other things or is nearly full;
        exit 5 if a run has appeared there in the meantime.
        """
        run = cls(path, disk, info)
        with storage_errors(path):
            if not path.is_dir():  # it may be a link to a folder on a larger disk
                disk.make_folder(Path(os.path.realpath(path)))
            _refuse_strangers(path)
            run._check_disk()
            try:
                disk.put_if_absent(path / "run.json", info.to_bytes())
            except FileExistsError:
                message = "another process has just started a run here; run again to continue it"
                raise JobError("RUN-EXISTS", message, exit_code=ExitCode.OTHER_RUNNER, where=str(path)) from None
        run.prepare()
        return run

    @classmethod
    def open(cls, path: Path, disk: Disk) -> RunDirectory:
        """Read what run is at `path`; nothing is written.

        Raises JobError: exit 6 if there is none or `run.json` is damaged, exit 4 if a newer format wrote it.
        """
        if not cls.exists(path):
            raise _environment("RUN-NOT-A-RUN", path, _nothing_there(path))
        where = path / "run.json"
        try:
            data = json.loads(unseal(read_bytes(where)))
            major = data.pop("format")["major"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(where, error) from error
        if major > FORMAT_MAJOR:
            message = f"written by a newer version (format {major}, this one knows {FORMAT_MAJOR}); upgrade unspool"
            raise JobError("RUN-OTHER-VERSION", message, exit_code=ExitCode.OTHER_SPEC, where=str(path))
        try:
            return cls(path, disk, RunInfo(**data))
        except TypeError as error:
            raise _damaged(where, error) from error

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def manifest(self) -> Path:
        return self.path / "inputs" / "manifest-000001.jsonl"

    def manifests(self) -> list[Path]:
        """The manifests that are there, in the order in which they were written."""
        return sorted(self.manifest.parent.glob("manifest-??????.jsonl"))

    def next_manifest(self) -> Path:
        """The name for one more manifest."""
        return self.manifest.with_name(f"manifest-{len(self.manifests()) + 1:06d}.jsonl")

    @property
    def reserve(self) -> Path:
        """Room that is given up when the disk is full, so that what is finished can still be committed."""
        return self.path / "_reserve"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def parts(self) -> Path:
        return self.path / "parts"

    @property
    def states(self) -> Path:
        return self.path / "states"

    @property
    def text(self) -> Path:
        return self.path / "text"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    @property
    def torn_records(self) -> Path:
        return self.path / "quarantine" / "ledger"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def locate(self, relative: str) -> Path:
        """The file with this path relative to the run directory, as ledger records give it.

        Raises JobError (exit 6) if it leads out of the run directory.
        """
        parts = PurePosixPath(relative).parts
        if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
            raise _environment("RUN-DAMAGED", self.path, f"the path {relative!r} leads out of the run directory")
        return self.path.joinpath(*parts)

    def prepare(self) -> None:
        """Make the folders that are missing, and check that there is room and permission to write.

        Raises JobError (exit 6).
        """
        with storage_errors(self.path):
            self._check_disk()
            for name in _FOLDERS:
                self.disk.make_folder(self.path / name)

    def not_finished(self) -> JobError:
        """What stops who wants to look at the tables before there are any."""
        message = f"the run is not finished, so it has no tables yet; `unspool resume {self.path}` goes on with it"
        return _environment("RUN-NOT-FINISHED", self.path, message)

    def keep_reserve(self) -> None:
        """Make the reserve if it is missing. Raises OSError."""
        self.disk.reserve(self.reserve, RESERVE_BYTES)

    def release_reserve(self) -> None:
        """Give its room back: a finished run needs none."""
        self.disk.remove(self.reserve)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run. Raises JobError RUN-BUSY (exit 5) naming who holds it.

        A forked child that lives on keeps the lock; start processes by exec only.
        """
        with held(self.path / "LOCK", str(self.path)):
            yield

    def collect_garbage(self, referenced: Set[str], epoch: int) -> list[str]:
        """Remove what earlier epochs left behind, and return the paths of it.

        Removed: everything unfinished (temporary files and folders), and the parts and checkpoints of epochs
        before `epoch` that are not in `referenced` (paths relative to the run directory, with slashes). It must
        name all that is still needed: parts in the ledger, checkpoints to resume from, parts that those name.
        To be called while no worker of this epoch writes yet.
        """
        removed = [path for path in _unfinished(self.path) if _remove(self.disk, path)]
        for name in _COLLECTED:
            for path in _files(self.path / name):
                relative = path.relative_to(self.path).as_posix()
                if relative not in referenced and _is_older(path.name, epoch) and _remove(self.disk, path):
                    removed.append(path)
        _remove_empty_folders(self.checkpoints)
        return sorted(path.relative_to(self.path).as_posix() for path in removed)

    def _check_disk(self) -> None:
        probe = self.path / f"probe{TEMPORARY}{os.getpid()}"
        self.disk.remove(probe)
        try:
            with self.disk.create(probe) as file:
                file.write(b"can this folder be written?\n")
        finally:
            self.disk.remove(probe)
        space = os.statvfs(self.path)
        free = space.f_bavail * space.f_frsize
        if free < LEAST_FREE_BYTES:
            message = f"only {free >> 20} MiB are free, at least {LEAST_FREE_BYTES >> 20} MiB are needed; make room"
            raise _environment("RUN-DISK-FULL", self.path, message)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError from inside into a JobError (exit 6) that says what to do.

    It names the file that the error names, or else `path`.
    """
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else path
        raise _environment("RUN-STORAGE", where, _advice(error)) from error


def refuse_unwritable(path: Path) -> None:
    """Raise JobError (exit 2) if no file can be written there, before work is done for it."""
    folder = _folder(path)
    if path.is_dir():
        raise usage_error("OUTPUT", "is a folder; give the name of a file in it", str(path))
    if not folder.is_dir():
        what = "is no folder; choose" if folder.exists() else "does not exist; make it, or choose"
        raise usage_error("OUTPUT", f"the folder {folder} {what} another", str(path))
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise usage_error("OUTPUT", "cannot be written; allow it, or choose another place", str(path))


def _folder(path: str | bytes | Path) -> Path:
    return Path(os.path.abspath(os.fsdecode(path))).parent


def _advice(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reason}; make room, then run again to resume"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write here: {reason}; allow it or choose another output.path"
    if error.errno == errno.ENOENT and error.filename and not (folder := _folder(error.filename)).is_dir():
        return f"the folder {folder} does not exist; make it, or choose another"
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
        return f"not a folder: {reason}; remove it or choose another output.path"
    return f"the disk failed: {reason}; nothing that was committed is lost, run again once it works"


def _environment(code: str, where: Path | str, message: str) -> JobError:
    return JobError(code, message, exit_code=ExitCode.ENVIRONMENT, where=str(where))


def _damaged(where: Path, error: Exception) -> JobError:
    message = f"damaged: {error}; restore this file from a copy, or start over in another output.path"
    return _environment("RUN-DAMAGED", where, message)


def _nothing_there(path: Path) -> str:
    if not path.exists():
        return "there is no run directory here"
    return "not a run directory (it has no run.json)" if path.is_dir() else "a file, not a run directory"


def _refuse_strangers(path: Path) -> None:
    strangers = sorted(name for name in os.listdir(path) if TEMPORARY not in name and name != "run.json")
    if strangers and not RunDirectory.exists(path):
        message = f"the folder holds other things ({strangers[0]}) and no run.json; choose an empty or new output.path"
        raise _environment("RUN-NOT-A-RUN", path, message)


@contextmanager
def held(path: Path, run: str) -> Iterator[None]:
    """Hold a lock file. Raises JobError RUN-BUSY (exit 5) naming who holds it; `run` is what they work on."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with storage_errors(path):
            _flock(descriptor, run)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on host {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, run: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip() or "another process"
        message = f"{holder} is working on this run; wait for it or stop it"
        raise JobError("RUN-BUSY", message, exit_code=ExitCode.OTHER_RUNNER, where=run) from None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder that is no link; links are given as files and never followed."""
    if folder.is_symlink():
        return
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _unfinished(run: Path) -> list[Path]:
    at_top = [Path(entry.path) for entry in _entries(run) if TEMPORARY in entry.name]
    folders = [run / name for name in _FOLDERS if "/" not in name]
    return at_top + [path for folder in folders for path in _files(folder) if TEMPORARY in path.name]


def _is_older(name: str, epoch: int) -> bool:
    match = _EPOCH_IN_NAME.search(name)
    return match is not None and int(match[1]) < epoch


def _remove(disk: Disk, path: Path) -> bool:
    """Remove a file or a folder; False if somebody else has."""
    if path.is_dir() and not path.is_symlink():
        disk.remove_tree(path)
        return True
    there = os.path.lexists(path)
    disk.remove(path)
    return there


def _remove_empty_folders(folder: Path) -> None:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False) and not _entries(Path(entry.path)):
            os.rmdir(entry.path)
