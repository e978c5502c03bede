"""From a job to a run that may begin: the model is found, the inputs are listed, the run directory is made or opened.

Everything that can be wrong before work starts is found here. Nothing of the model but its hash is needed, so a plan
costs no loading. Knows nothing of workers.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from jobs import standard_input
from jobs.errors import ExitCode, JobError, usage_error
from jobs.input_list import read_input_list
from jobs.ledger import RunLedger
from jobs.manifest import InputPattern, ManifestEntry, expand, read_manifests, with_members, write_manifest
from jobs.records import Finished
from jobs.run_directory import RunDirectory, RunInfo, storage_errors
from jobs.schema import InputSection
from jobs.spec import JobSpec, differences, load_resolved
from jobs.standard_input import STDIN, STDIN_ID
from jobs.stored_runs import is_stored, place_of
from pipeline.documents import FOLLOW, DocumentRef
from pipeline.durable import TEMPORARY, Disk, sha256_file, sha256_hex
from pipeline.remote import is_remote
from rwkv_runtime import auto_dtype
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import ModelIdentity, identify

_VERSIONED: Final = ("unspool", "torch", "ray", "pyarrow", "sentencex", "tokenizers")


@dataclass(frozen=True)
class Job:
    """A job as it stands now: what was asked for, the model that is meant, and where its inputs are relative to."""

    spec: JobSpec
    root: Path
    model: ModelIdentity

    @property
    def fingerprint(self) -> str:
        return self.spec.fingerprint(self.model.fingerprint)

    @property
    def run_path(self) -> Path:
        return place_of(self.spec.output.path)

    @property
    def texts(self) -> Path:
        """Where the run keeps texts that are not what lies in its inputs' files."""
        return self.run_path / "text"

    @property
    def on_stdin(self) -> InputSection | None:
        """The input that is standard input, if one is."""
        return next((entry for entry in self.spec.inputs if entry.path == STDIN), None)


@dataclass(frozen=True)
class Run:
    """A run directory that fits the job."""

    job: Job
    directory: RunDirectory
    is_new: bool


def identify_model(spec: JobSpec) -> ModelIdentity:
    """Find and hash the job's model. Raises JobError (exit 7)."""
    try:
        return identify(spec.model.location)
    except RwkvError as error:
        raise model_error(error) from error


def model_error(error: RwkvError) -> JobError:
    """What stops a job whose model cannot be used."""
    return JobError("MODEL", str(error), exit_code=ExitCode.MODEL)


def list_inputs(job: Job) -> list[ManifestEntry]:
    """The documents that the job names now. Raises JobError (exit 2)."""
    from pipeline.formats import members, reader_for

    run = os.path.realpath(job.run_path)
    patterns = [_pattern(entry) for entry in job.spec.inputs if entry.path != STDIN]
    files = expand(patterns, job.root, None, lambda path: reader_for(path) or "")
    for entry in files:
        if not is_remote(entry.uri) and Path(os.path.realpath(entry.path(job.root))).is_relative_to(run):
            message = f"{entry.uri} lies in the run directory; choose an output.path away from the inputs"
            raise usage_error("INPUT-IN-OUTPUT", message)
    files = [_as_text(entry) for entry in files]
    files += [_standard_input(job, entry) for entry in job.spec.inputs if entry.path == STDIN]
    files.sort(key=lambda entry: entry.uri.encode())
    return with_members(files, job.root, job.spec.limit, members)


def _as_text(entry: ManifestEntry) -> ManifestEntry:
    """What is followed is read as plain text, also where its name says nothing of its kind."""
    if FOLLOW not in entry.options or entry.reader == "text":
        return entry
    if entry.reader:
        raise usage_error("INPUT-FOLLOW", f"is read as {entry.reader}; only plain text can be followed", entry.uri)
    return replace(entry, reader="text")


def _standard_input(job: Job, entry: InputSection) -> ManifestEntry:
    """What was on standard input, as a file of the run; without a size and a reader while it has not been read."""
    from pipeline.formats import reader_for

    path = standard_input.kept(job.texts)
    name = os.path.relpath(path or job.texts / "stdin", job.root)
    if path is None:
        return ManifestEntry(0, STDIN_ID, STDIN, 0, 0, "", entry.options(), name=name)
    facts = path.stat()
    reader = reader_for(path.name) or ""
    return ManifestEntry(0, STDIN_ID, STDIN, facts.st_size, facts.st_mtime_ns, reader, entry.options(), name=name)


def _pattern(entry: InputSection) -> InputPattern:
    if entry.manifest is None:
        return InputPattern(_local(entry.path or ""), entry.exclude, entry.options())
    listed = read_input_list(entry.manifest, entry.folder, entry.metadata)
    return InputPattern(entry.manifest, (), entry.options(), tuple(listed))


def _local(path: str) -> str:
    """The path that a file:// address means; anything else as it is."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


def open_or_create(job: Job, disk: Disk) -> Run:
    """The run of this job: a new one, or the one that is there, if it is of the same job.

    Raises JobError: exit 2 (inputs, `mode: error`), 4 (another job), 6 (the place cannot be used).
    """
    path, mode = job.run_path, job.spec.output.mode
    if not RunDirectory.exists(path):
        return _create(job, disk)
    if mode == "error":
        message = "there is a run already and output.mode is `error`; choose another output.path, or mode: resume"
        raise usage_error("RUN-EXISTS", message, str(path))
    directory = RunDirectory.open(path, disk)
    if mode == "overwrite" or (disk.locks and _has_read_nothing(directory)):
        _refuse_inputs(job)  # what is wrong with them is said before anything is lost
        _remove(directory)
        return _create(job, disk)
    refuse_other_job(job, directory)
    return Run(job, directory, is_new=False)


def open_run_directory(path: Path, disk: Disk, workers: int | None = None) -> Run:
    """A run by its directory alone, with the job it was started with. Raises JobError (exit 4, 6, 7)."""
    directory = RunDirectory.open(path, disk)
    spec = load_resolved(directory.info.spec, where=str(path / "run.json"))
    if is_stored(spec.output.path):
        message = f"a copy of the run at {spec.output.path}; run its job file to go on with it"
        raise usage_error("RUN-IS-A-COPY", message, str(path))
    spec = spec.model_copy(update={"output": spec.output.model_copy(update={"path": str(path.absolute())})})
    if workers is not None:
        spec = spec.model_copy(update={"run": spec.run.model_copy(update={"workers": workers})})
    job = Job(spec, Path(directory.info.root), identify_model(spec))
    refuse_other_job(job, directory)
    return Run(job, directory, is_new=False)


def refuse_other_job(job: Job, directory: RunDirectory) -> None:
    """Raise JobError (exit 4) with what differs, if the run's rows would not be those of this job."""
    info = directory.info
    changed: list[str] = []
    if info.model_fp != job.model.fingerprint:
        changed.append(f"model: {info.model_fp[:12]} → {job.model.fingerprint[:12]}")
    if job.spec.model.dtype not in ("auto", info.dtype):
        changed.append(f"model.dtype: {info.dtype} → {job.spec.model.dtype}")
    if info.spec_fp != job.fingerprint:
        before = load_resolved(info.spec, where=str(directory.path / "run.json"))
        changed.extend(differences(before.semantic(), job.spec.semantic()))
    if changed:
        message = f"made by another job: {'; '.join(changed)}; put it back to resume, or choose another output.path"
        raise JobError("RUN-OTHER-SPEC", message, exit_code=ExitCode.OTHER_SPEC, where=str(directory.path))


def reference(entry: ManifestEntry, root: Path) -> DocumentRef:
    """What a worker is given of a document."""
    return DocumentRef(
        entry.doc_id,
        entry.uri,
        entry.source(root),
        entry.size,
        entry.mtime_ns,
        entry.reader,
        dict(entry.options),
    )


def versions() -> dict[str, str]:
    """What a run is made with, for people: nothing is decided by it."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def frozen_inputs(run: Run) -> tuple[ManifestEntry, ...]:
    """The documents of a run, listed once and for all when it first begins. To be called by who holds its lock.

    Standard input, if it is one of them, is read to its end before. Raises JobError (exit 2, 6), OSError.
    """
    directory, on_stdin = run.directory, run.job.on_stdin
    if not directory.manifest.exists():
        if on_stdin is not None and standard_input.kept(run.job.texts) is None:
            standard_input.keep(run.job.texts, directory.disk, on_stdin.max_bytes)
        write_manifest(directory.manifest, list_inputs(run.job), directory.disk)
    return tuple(read_manifests(directory.manifests()))


def _create(job: Job, disk: Disk) -> Run:
    _refuse_inputs(job)  # what is wrong with them is said before anything is made
    return Run(job, RunDirectory.create(job.run_path, disk, _info(job)), is_new=True)


def _refuse_inputs(job: Job) -> None:
    """Raise JobError (exit 2) if the inputs cannot be listed, or standard input cannot be read."""
    list_inputs(job)
    if job.on_stdin is not None:
        standard_input.refuse_terminal()


def _has_read_nothing(directory: RunDirectory) -> bool:
    """Whether a run never came to reading, as when its model could not be loaded: then it holds nothing to lose."""
    if standard_input.kept(directory.path / "text") is not None:  # it may be nowhere else
        return False
    view = RunLedger.read(directory.ledger)
    return not view.finished_ids() and not view.numerics and view.torn is None


def _info(job: Job) -> RunInfo:
    return RunInfo(
        run_id=str(uuid.uuid4()),
        root=str(job.root),
        spec=job.spec.resolved(),
        spec_fp=job.fingerprint,
        model_fp=job.model.fingerprint,
        tokenizer_fp=job.model.tokenizer_sha256,
        versions=versions(),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        dtype=auto_dtype.resolve(job.spec.model.dtype, job.spec.model.device),
    )


def _remove(directory: RunDirectory) -> None:
    """Remove a whole run. It loses its name first, so that a crash leaves no half of a run behind under it."""
    with directory.lock(), storage_errors(directory.path):
        path = Path(os.path.realpath(directory.path))  # a link to a folder on a larger disk stays a link to there
        aside = path.with_name(f"{path.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
        directory.disk.rename(path, aside)
        directory.disk.remove_tree(aside)


def changes_since_start(run: Run, entries: Sequence[ManifestEntry]) -> tuple[str, ...]:
    """What differs from the time the run was started without keeping it from going on, in lines for people.

    Raises JobError (exit 4) if the job names none of the run's documents any more.
    """
    job, directory = run.job, run.directory
    notes: list[str] = []
    if job.on_stdin is not None:
        message = (
            "standard input was read when the run began, and is not looked at again; for what is on it now, choose"
        )
        notes.append(f"{message} another output.path")
    try:
        now = {entry.doc_id: entry for entry in list_inputs(job)}
    except JobError:
        return ("the inputs cannot be listed any more; the run goes on with those it was started with",)
    if entries and not any(entry.doc_id in now for entry in entries):
        message = f"made of other inputs (the first was {entries[0].uri}); choose another output.path"
        raise JobError("RUN-OTHER-SPEC", message, exit_code=ExitCode.OTHER_SPEC, where=str(directory.path))
    new = len(now.keys() - {entry.doc_id for entry in entries})
    if new:
        notes.append(f"{new} new file(s) match the inputs; `--refresh-inputs` reads them too")
    changed = [entry.uri for entry in entries if entry.doc_id in now and differs(entry, now[entry.doc_id])]
    if changed:
        message = f"{len(changed)} input(s) have changed since the run was started, the first is {changed[0]}"
        notes.append(f"{message}; `--refresh-inputs` reads them again")
    old = {key: value for key, value in directory.info.versions.items() if versions().get(key) != value}
    notes.extend(f"{name} was {was}, now {versions().get(name, 'missing')}" for name, was in sorted(old.items()))
    return tuple(notes)


def spec_changes(run: Run) -> tuple[str, ...]:
    """How the job differs from the one that began the run, in what changes no row."""
    return tuple(differences(run.directory.info.spec, run.job.spec.resolved()))


def stale_documents(run: Run, manifest: Sequence[ManifestEntry], done: Mapping[str, Finished]) -> list[str]:
    """URIs of documents whose file holds something else now than what was read."""
    found = ((entry, done.get(entry.doc_id)) for entry in manifest)
    return [entry.uri for entry, document in found if document and _is_stale(run.job.root, entry, document)]


def _is_stale(root: Path, entry: ManifestEntry, document: Finished) -> bool:
    if FOLLOW in entry.options:
        return False  # what has been appended since is nobody's fault
    path = entry.path(root)
    try:
        facts = path.stat()
        if facts.st_mtime_ns == entry.mtime_ns and (entry.member or facts.st_size == entry.size):
            return False
        if "start" in entry.options:
            record = _bytes_of(path, int(entry.options["start"]), int(entry.options["end"]))
            return sha256_hex(record) != document.source_sha256
        # What was packed cannot be told without unpacking it.
        return bool(entry.member) or sha256_file(path) != document.source_sha256
    except OSError:
        return False  # a file that is gone does not make what was read of it wrong


def _bytes_of(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def differs(then: ManifestEntry, now: ManifestEntry) -> bool:
    """Whether a document is not the one that was listed, as far as can be seen without reading it."""
    if FOLLOW in then.options:
        return False
    return (then.size, then.mtime_ns, then.options) != (now.size, now.mtime_ns, now.options)
