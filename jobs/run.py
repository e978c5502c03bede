"""Running a job from its file to its tables: the order of things, and nothing else.

`run_job` is what `unspool run` does; running again is resuming. Knows nothing of how documents are read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from jobs.description import description_of, schemas_of, tables_of
from jobs.duplicates import settle
from jobs.embed_task import EmbedTask
from jobs.errors import ExitCode, JobError, usage_error
from jobs.events import EventLog
from jobs.finalize import finalize, materialise_states
from jobs.following import FOLLOWING, LIVE, Followed, follows
from jobs.ledger import LedgerView, RunLedger
from jobs.manifest import ManifestEntry
from jobs.patience import Patience
from jobs.pools import open_pool, processors, ray_error, threads_of, workers_of
from jobs.prepare import (
    Job,
    Run,
    changes_since_start,
    frozen_inputs,
    identify_model,
    model_error,
    open_or_create,
    open_run_directory,
    spec_changes,
    stale_documents,
    versions,
)
from jobs.progress import Display, LiveDisplay, NoDisplay, PlainDisplay, Tally, Watch
from jobs.publish import Publication
from jobs.records import Epoch, Finished, Invalidate, SpecNote
from jobs.refresh import refresh_inputs, retry
from jobs.report import write_report
from jobs.run_directory import RunDirectory, storage_errors
from jobs.signals import Signals, StopRequested
from jobs.spec import JobSpec, load_spec
from jobs.stored_runs import disk_for, is_stored
from jobs.supervise import Limits, Supervisor, Watchers
from jobs.terminal import people_console
from jobs.verify import damaged_documents, file_differences, state_differences
from pipeline.durable import Disk, Faults
from pipeline.errors import OptionError
from pipeline.last_words import Crash, take_crashes
from pipeline.pool import PoolError
from rwkv_runtime.errors import RwkvError

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipeline.work import WorkerSpec

_LOOKED_AT: Final = 64
LANES_ON_GPU: Final = 8


@dataclass(frozen=True)
class RunOptions:
    """How to run, apart from what to run. `faults` makes the program fail at named points, for tests.

    With `sparing`, documents are not read where no task needs the model: for a run that nobody keeps.
    """

    progress: str = "auto"
    fail_fast: bool = False
    faults: str = ""
    handle_signals: bool = False
    verbose: bool = False
    sparing: bool = False
    console: Console = field(default_factory=people_console)


@dataclass(frozen=True)
class RunResult:
    """A finished run, or one that was stopped in good order (`exit_code` 75)."""

    path: Path
    exit_code: ExitCode
    documents: int
    failed: int
    tokens: int
    tokens_fed: int
    seconds: float

    def table(self, name: str) -> ds.Dataset:
        """A table of the finished run as a pyarrow dataset; while files are followed, what there is of it.

        Raises JobError if the run is not finished.
        """
        import pyarrow.dataset as ds

        folder = self.path / "output" / name
        if live := sorted(map(str, (self.path / LIVE / name).glob("*.parquet"))):
            return ds.dataset(live, format="parquet")
        if not folder.is_dir():
            known = sorted(path.name for path in folder.parent.glob("*/"))
            message = f"no table `{name}`; there are {', '.join(known)}" if known else "the run is not finished"
            raise JobError("RUN-NO-TABLE", message, exit_code=ExitCode.USAGE, where=str(self.path))
        return ds.dataset(folder, format="parquet")


def run_job(
    path: str | Path, overrides: Sequence[str] = (), options: RunOptions | None = None, refresh: bool = False
) -> RunResult:
    """Run a job file, or resume it where it stands. `overrides` are `--set` texts.

    With `refresh`, a run that is there also reads what the job names now and did not when it began, and what has
    changed. Raises JobError.
    """
    options = options or RunOptions(progress="none")
    with _stoppable(options) as signals:
        job = load_job(Path(path), overrides)
        with disk_for(job.spec, Faults.parse(options.faults)) as disk:
            return _execute(open_or_create(job, disk), options, signals, _refreshed if refresh else None)


def resume_run(
    path: str | Path, options: RunOptions | None = None, workers: int | None = None, refresh: bool = False
) -> RunResult:
    """Continue a run directory with the job that it was started with, on another number of workers if one is given.

    With `refresh`, files that are new are read too, and those that have changed are read again. Raises JobError.
    """
    options = options or RunOptions(progress="none")
    with _stoppable(options) as signals:
        run = open_run_directory(Path(path), _disk(options), workers)
        return _execute(run, options, signals, _refreshed if refresh else None)


def retry_run(
    path: str | Path, documents: Sequence[str] = (), options: RunOptions | None = None, workers: int | None = None
) -> RunResult:
    """Have documents of a run read again, named by id or URI, or else all that have failed. Raises JobError."""
    options = options or RunOptions(progress="none")

    def again(run: Run, ledger: RunLedger, manifest: Sequence[ManifestEntry]) -> list[str]:
        found = retry(ledger, manifest, documents)
        return [f"{len(found)} document(s) are read again"] if found else ["no document has failed; nothing to do"]

    with _stoppable(options) as signals:
        return _execute(open_run_directory(Path(path), _disk(options), workers), options, signals, again)


Asked = Callable[[Run, RunLedger, Sequence[ManifestEntry]], list[str]]
"""What a user asks of a run before it goes on; returns lines for people."""


def _refreshed(run: Run, ledger: RunLedger, manifest: Sequence[ManifestEntry]) -> list[str]:
    return refresh_inputs(run, ledger, manifest).lines() or ["the inputs are as they were"]


def open_run(path: str | Path) -> RunResult:
    """A run that is there, to look at its tables. Raises JobError (exit 6) if there is none."""
    run = RunDirectory.open(Path(path), Disk())
    view = RunLedger.read(run.ledger)
    finished = ExitCode.FAILURES if view.quarantined else ExitCode.OK
    return _result(run, view, finished if view.final else ExitCode.INTERRUPTED, tokens_fed=0, seconds=0.0)


def load_job(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file and find its model; nothing is written. Raises JobError (exit 2, 7)."""
    spec = load_spec(path, overrides)
    return Job(spec, path.absolute().parent, identify_model(spec))


def _disk(options: RunOptions) -> Disk:
    return Disk(Faults.parse(options.faults))


@contextmanager
def _stoppable(options: RunOptions) -> Iterator[Signals]:
    """Raises JobError (exit 75) where a signal stops the command before it has read anything."""
    signals = Signals(options.handle_signals)
    try:
        with signals.listening():
            yield signals
    except StopRequested:
        message = "interrupted before anything was read; run again to go on"
        raise JobError("INTERRUPTED", message, exit_code=ExitCode.INTERRUPTED) from None


def _execute(run: Run, options: RunOptions, signals: Signals, asked: Asked | None = None) -> RunResult:
    directory = run.directory
    directory.prepare()
    say = _Say(options)
    with directory.lock(), storage_errors(directory.path):
        directory.keep_reserve()
        manifest = frozen_inputs(run)
        view = RunLedger.read(directory.ledger)
        if not run.is_new:
            _say_what_is_there(run, manifest, view, say)
        reason = FOLLOWING if follows(run.job) else "start" if run.is_new else "resume"
        owner = Epoch.of_this_process(reason, versions())
        ledger = RunLedger.take_over(view, directory.disk, directory.torn_records, owner, directory.reserve)
        _invalidate_damaged(directory, ledger, _looked_at(ledger.view), say)
        _note_spec(run, ledger, say)
        for line in asked(run, ledger, manifest) if asked else ():  # first: what cannot be done changes nothing
            say(line)
        _try_again(ledger, say)
        manifest = frozen_inputs(run)
        _collect_garbage(directory, manifest, ledger)
        to = run.job.spec.output.publish
        publication = Publication(directory, to) if to else None  # before hours are spent
        return _Execution(run, manifest, ledger, options, signals, say, publication).carry_out()


class _Say:
    """Lines for people on stderr, unless they asked for silence."""

    def __init__(self, options: RunOptions) -> None:
        self._display = None if options.progress == "none" else NoDisplay(options.console)

    def __call__(self, text: str) -> None:
        if self._display is not None:
            self._display.say(text)


def _say_what_is_there(
    run: Run, manifest: Sequence[ManifestEntry], view: LedgerView, say: Callable[[str], None]
) -> None:
    say(f"resuming {run.directory.path}: {len(view.finished_ids())} of {len(manifest)} documents are done")
    for note in changes_since_start(run, manifest):
        say(f"note: {note}")
    if view.torn is not None:
        say(f"warning: the last ledger record, {view.torn.name}, was torn by a crash; what it held is done again")


def _invalidate_damaged(
    directory: RunDirectory, ledger: RunLedger, documents: Sequence[Finished], say: Callable[[str], None]
) -> bool:
    """Have those of the documents read again whose parts are damaged or missing; whether there were any."""
    damaged = damaged_documents(directory, documents)
    if damaged:
        first = next(iter(damaged.values()))
        say(f"warning: {len(damaged)} finished document(s) have damaged parts and are read again: {first}")
        ledger.commit(Invalidate(tuple(sorted(damaged)), first))
    return bool(damaged)


def _looked_at(view: LedgerView) -> list[Finished]:
    """The documents whose parts are looked at before a run goes on: the last ones and those that have failed.

    Of a run that is finished, all: nothing will read them later, as the end of any other does.
    """
    done = list(view.done.values())
    return [*(record.document for record in view.quarantined.values()), *(done if view.final else done[-_LOOKED_AT:])]


def _note_spec(run: Run, ledger: RunLedger, say: Callable[[str], None]) -> None:
    """Record that the job file has changed in ways that change no row, once for each state of it."""
    changes = spec_changes(run)
    if changes != ledger.view.spec_changes:
        for change in changes:
            say(f"note: {change}")
        ledger.commit(SpecNote(changes))


def _try_again(ledger: RunLedger, say: Callable[[str], None]) -> None:
    """Have the documents read again that failed for a reason that may be gone."""
    again = sorted(doc_id for doc_id, record in ledger.view.quarantined.items() if record.retryable)
    if again:
        say(f"{len(again)} document(s) that failed are tried again: {ledger.view.quarantined[again[0]].reason}")
        ledger.commit(Invalidate(tuple(again), "tried again"))


def _output_is_whole(run: Run, view: LedgerView) -> bool:
    """Whether the files of a finished run are what its ledger says."""
    documents = [document for document in map(view.finished, view.finished_ids()) if document]
    states = (line for document in documents for line in state_differences(run.directory, document))
    return view.final is not None and not any(file_differences(run.directory, view.final)) and not any(states)


def _collect_garbage(directory: RunDirectory, manifest: Sequence[ManifestEntry], ledger: RunLedger) -> None:
    from pipeline.checkpoints import CheckpointFolder

    view = ledger.view
    unfinished = [entry.doc_id for entry in manifest if entry.doc_id not in view.finished_ids()]
    checkpoints = CheckpointFolder(directory.path, directory.disk).references(unfinished)
    directory.collect_garbage(view.parts() | checkpoints, ledger.epoch)


class _Execution:
    """One process's part in a run, once it owns it."""

    def __init__(
        self,
        run: Run,
        manifest: Sequence[ManifestEntry],
        ledger: RunLedger,
        options: RunOptions,
        signals: Signals,
        say: Callable[[str], None],
        publication: Publication | None,
    ) -> None:
        self._run = run
        self._publication = publication
        self._manifest = manifest
        self._ledger = ledger
        self._options = options
        self._signals = signals
        self._say = say
        self._followed = Followed(run, ledger, manifest)
        self._crashes: tuple[Crash, ...] = ()
        info = run.directory.info
        self._events = EventLog(run.directory.events, run.directory.metrics, info.run_id)
        self._started = time.monotonic()

    def carry_out(self) -> RunResult:
        """Read what is left, then write `output/`."""
        dtype = self._run.directory.info.dtype
        self._events.note("run_started", epoch=self._ledger.epoch, documents=len(self._manifest), dtype=dtype)
        self._crashes = tuple(take_crashes(self._run.directory.quarantine, self._run.directory.disk))
        try:
            is_over = self._read_and_finalize()
        except StopRequested:
            is_over = False
        if not is_over:
            self._events.note("run_interrupted", signal=self._signals.received[:1])
            return self._result(ExitCode.INTERRUPTED)
        self._run.directory.release_reserve()
        failed = len(self._ledger.view.quarantined)
        self._events.note("run_finished", documents=len(self._manifest), failed=failed)
        return self._result(self._verdict())

    def _read_and_finalize(self) -> bool:
        """False if a signal ended the reading. Raises StopRequested if one comes later."""
        view = self._ledger.view
        if view.final is not None and not _output_is_whole(self._run, view):
            self._say("warning: the finished tables are damaged or missing; they are written again")
            self._finalize()
        for line in self._followed.begin():
            self._say(line)
        while view.final is None:
            self._manifest = frozen_inputs(self._run)  # files that were rotated have made it longer
            waiting = settle(self._run, self._ledger, self._manifest)
            left = [one for one in self._manifest if not view.finished(one.doc_id) and one.doc_id not in waiting]
            if left and not self._read(left):
                return False
            self._manifest = frozen_inputs(self._run)
            if not waiting:
                self._finalize()
        self._write_summary()
        write_report(self._run.directory)
        if self._publication and view.final:
            self._publication.bring_up_to_date(view.final, self._say)
        return True

    def _verdict(self) -> ExitCode:
        view = self._ledger.view
        stale = stale_documents(self._run, self._manifest, view.done)
        if stale:
            self._say(
                f"warning: {len(stale)} input(s) have changed since they were read, the first is {stale[0]}; "
                "start another run to read them as they are now"
            )
        return ExitCode.FAILURES if view.quarantined or stale else ExitCode.OK

    def _result(self, code: ExitCode) -> RunResult:
        seconds = time.monotonic() - self._started
        return _result(self._run.directory, self._ledger.view, code, self._events.tokens_fed, seconds)

    def _read(self, entries: list[ManifestEntry]) -> bool:
        from pipeline.checkpoints import CheckpointFolder
        from pipeline.parts import PartWriter

        spec, directory = self._run.job.spec, self._run.directory
        refs = [self._followed.reference(entry) for entry in entries]
        workers = workers_of(spec, len(refs), processors())
        made = worker_spec_of(self._run, threads_of(spec, workers, processors()), self._options.faults)
        worker_spec = replace(made, sparing=self._options.sparing)
        crashes, self._crashes = self._crashes, ()
        with self._signals.answered_by_others():
            pool = open_pool(worker_spec, workers, spec.ray)
        try:
            watching = Watch(self._tally(), _display(self._options), self._options.verbose)
            with self._signals.noted_only(), watching as watch:
                supervisor = Supervisor(
                    pool,
                    self._ledger,
                    refs,
                    worker_spec.lanes + -(-self._followed.count // (workers or 1)),  # they leave room for others
                    Limits(
                        spec.on_error.retries, spec.on_error.max_failed, len(self._manifest), self._options.fail_fast
                    ),
                    PartWriter(directory.path, directory.disk),
                    Watchers((self._events, watch)),
                    directory.quarantine,
                    CheckpointFolder(directory.path, directory.disk).clear,
                    lambda: self._signals.requested,
                    Patience(spec.on_error.stall_timeout),
                    self._followed,
                    crashes,
                )
                return supervisor.run() and not self._signals.requested
        except RwkvError as error:
            raise model_error(error) from error
        except OptionError as error:
            raise usage_error("SPEC-VALUE", str(error)) from error
        except PoolError as error:
            raise ray_error(error) from error
        finally:
            pool.close()

    def _tally(self) -> Tally:
        view, entries = self._ledger.view, self._manifest
        finished = dict.fromkeys(view.done, "ok") | dict.fromkeys(view.quarantined, "failed")
        sizes = {entry.doc_id: entry.size for entry in entries}
        uris = {entry.doc_id: entry.uri for entry in entries}
        return Tally(sizes, uris, finished, follows(self._run.job))

    def _finalize(self) -> None:
        """Write `output/`, unless a part turns out to be damaged: then its document is left to be read again."""
        directory, view = self._run.directory, self._ledger.view
        schemas, description = schemas_of(self._run.job, view), description_of(self._run.job, view)
        try:
            materialise_states(directory, view)
            finalize(directory, self._ledger, self._manifest, schemas, description)
            self._followed.end()
        except JobError as error:
            documents = [document for document in map(view.finished, view.finished_ids()) if document]
            if error.code != "RUN-PART-DAMAGED":
                raise
            if not _invalidate_damaged(directory, self._ledger, documents, self._say):
                raise

    def _write_summary(self) -> None:
        view, directory = self._ledger.view, self._run.directory
        finished = [document for document in map(view.finished, view.finished_ids()) if document]
        summary = {
            "run_id": directory.info.run_id,
            "documents": len(self._manifest),
            "failed": len(view.quarantined),
            "tokens": sum(document.tokens for document in finished),
            "rows": {table: sum(document.rows(table) for document in finished) for table in tables_of(self._run.job)},
            "seconds_reading": round(sum(document.seconds for document in finished), 1),
            "epochs": view.epoch,
        }
        directory.disk.publish(directory.summary, json.dumps(summary, indent=2).encode() + b"\n")


def worker_spec_of(run: Run, threads: int, faults: str = "") -> WorkerSpec:
    """What every worker of a run is built from."""
    from pipeline.work import WorkerSpec

    spec, info = run.job.spec, run.directory.info
    embed = next((task for task in spec.tasks if isinstance(task, EmbedTask)), None)
    return WorkerSpec(
        run=str(run.directory.path.absolute()),
        run_id=info.run_id,
        spec_fingerprint=info.spec_fp,
        model_source=spec.model.location,
        model_fingerprint=info.model_fp,
        device=spec.model.device,
        dtype=info.dtype,
        threads=threads,
        window=spec.run.window,
        lanes=lanes_of(spec),
        pooling=embed.pooler if embed else "auto",
        max_chars=spec.split.max_chars,
        sections=spec.split.sections,
        language=None if spec.split.language == "auto" else spec.split.language,
        tasks=tuple({**task.model_dump(mode="json"), "seed": spec.run.seed} for task in spec.tasks),
        checkpoint_tokens=spec.checkpoint.every.tokens,
        checkpoint_seconds=spec.checkpoint.every.seconds,
        checkpoint_keep=spec.checkpoint.keep,
        doc_timeout=spec.on_error.doc_timeout,
        page_timeout=spec.on_error.page_timeout,
        faults=faults,
        store=spec.output.path if is_stored(spec.output.path) else "",
        policy=spec.policy,
        profile=embed.profile if embed else None,
        profile_sha256=embed.profile_sha256 if embed else None,
    )


def lanes_of(spec: JobSpec) -> int:
    """How many documents a worker reads at once: on a graphics card together, elsewhere one after another."""
    if spec.run.lanes != "auto":
        return spec.run.lanes
    return LANES_ON_GPU if spec.model.device.startswith("cuda") else 1


def _display(options: RunOptions) -> Display:
    if options.progress == "none":
        return NoDisplay(Console(quiet=True))
    if options.progress == "silent":
        return NoDisplay(options.console)
    if options.progress == "plain" or not options.console.is_terminal:
        return PlainDisplay(options.console)
    return LiveDisplay(options.console)


def _result(run: RunDirectory, view: LedgerView, code: ExitCode, tokens_fed: int, seconds: float) -> RunResult:
    tokens = sum(document.tokens for document in view.done.values())
    return RunResult(run.path, code, len(view.finished_ids()), len(view.quarantined), tokens, tokens_fed, seconds)
