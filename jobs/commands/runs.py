"""Commands on jobs and their runs: run, resume, plan, status, verify, and the schema of the job file."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jobs.commands.options import (
    AsJson,
    FailFast,
    JobFile,
    Limit,
    Model,
    NoProgress,
    Output,
    Overrides,
    Quiet,
    RefreshInputs,
    RunPath,
    Verbose,
    Workers,
    complain,
    data,
    say,
)
from jobs.errors import ExitCode, JobError, safe, usage_error
from jobs.progress import human_bytes, human_seconds
from jobs.terminal import data_console, json_text

if TYPE_CHECKING:
    from jobs.estimate import Estimate

FAULT_VARIABLE = "UNSPOOL_FAULT"
"""The one environment variable that is read here: places at which tests make the program fail."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (run, resume, retry, plan, status, verify, report, show, schema):
        app.command()(command)


def run(
    job: JobFile,
    overrides: Overrides = None,
    model: Model = None,
    output: Output = None,
    workers: Workers = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="The same as `plan`.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_progress: NoProgress = False,
    fail_fast: FailFast = False,
    refresh: RefreshInputs = False,
) -> None:
    """Run a job; the same command again resumes it."""
    texts = _overrides(overrides, model, output, workers, limit)
    if dry_run:
        _show_plan(job, texts, as_json)
        return
    from jobs.run import run_job

    _finish(run_job(job, texts, _options(quiet, verbose, no_progress, fail_fast), refresh), as_json, quiet)


def resume(
    run: RunPath,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_progress: NoProgress = False,
    fail_fast: FailFast = False,
    refresh: RefreshInputs = False,
) -> None:
    """Continue a run directory with the job that it was started with."""
    from jobs.run import resume_run

    _finish(resume_run(run, _options(quiet, verbose, no_progress, fail_fast), workers, refresh), as_json, quiet)


def retry(
    run: RunPath,
    failed: Annotated[bool, typer.Option("--failed", help="Every document that has failed.")] = False,
    documents: Annotated[
        list[str] | None, typer.Option("--doc", help="A document, by its id or address; may be given again.")
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_progress: NoProgress = False,
) -> None:
    """Read documents of a run again: those that have failed, or those that you name."""
    from jobs.run import retry_run

    if failed == bool(documents):
        raise usage_error("USAGE", "say which documents: --failed, or --doc ID once or more; not both")
    _finish(retry_run(run, documents or (), _options(quiet, verbose, no_progress, False), workers), as_json, quiet)


def plan(
    job: JobFile,
    overrides: Overrides = None,
    model: Model = None,
    output: Output = None,
    workers: Workers = None,
    limit: Limit = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Read for two seconds, to tell the time and the memory.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say what would run, why each document would or would not, how long it takes and in how much memory."""
    _show_plan(job, _overrides(overrides, model, output, workers, limit), as_json, measure)


def status(
    run: RunPath,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until it ends.")] = False,
) -> None:
    """Say how a run stands; reads its directory only."""
    from jobs.status import status_of

    while True:
        now = status_of(run)
        if as_json and watch:
            typer.echo(json_text(now.to_json()))  # one line each, for whoever reads along
        elif as_json:
            data(now.to_json())
        else:
            _show_status(now)
        if not watch or now.state not in ("running", "following"):
            return
        time.sleep(2)


def verify(run: RunPath, as_json: AsJson = False) -> None:
    """Check every part, checkpoint and count of a run; exit 6 on any difference."""
    from jobs.run_directory import RunDirectory
    from jobs.verify import verify as differences_of
    from pipeline.durable import Disk

    found = differences_of(RunDirectory.open(run, Disk()))
    if as_json:
        data({"run": str(run), "differences": found})
    if found:
        first = f"{found[0]} (and {len(found) - 1} more)" if len(found) > 1 else found[0]
        for line in [] if as_json else found:
            say(line)
        message = f"{first}; run or resume it: what is damaged is made again"
        raise JobError("VERIFY", message, exit_code=ExitCode.ENVIRONMENT, where=str(run))
    if not as_json:
        say(f"{run}: everything is as the ledger says")


def report(
    run: RunPath,
    arrangement: Annotated[
        str,
        typer.Option("--map", help="pca (quick), or tsne: by neighbours (`pip install unspool[viz]`)."),
    ] = "pca",
    as_json: AsJson = False,
) -> None:
    """Write report.html anew: what was read and what came of it, in one file for a browser."""
    from jobs.report import arrangement_of, write_report
    from jobs.run_directory import RunDirectory, storage_errors
    from pipeline.durable import Disk

    directory = RunDirectory.open(run, Disk())
    with storage_errors(run):
        path = write_report(directory, arrangement_of(arrangement))
    if as_json:
        data({"report": str(path), "bytes": path.stat().st_size})
    else:
        say(safe(f"written to {path}"))


def show(
    run: RunPath,
    document: Annotated[str, typer.Argument(help="A document, by its id or address.", metavar="DOC")],
    as_json: AsJson = False,
) -> None:
    """Show one document of a finished run: its summaries, extractions and failures, in the order of its text."""
    from jobs.document_view import lines_of, view_of

    found = view_of(run, document)
    if as_json:
        data(found.to_json())
        return
    console = data_console()
    for line in lines_of(found, console.width):
        console.print(Text(line), soft_wrap=True)


def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from jobs.spec import json_schema

    data(json_schema())


def _overrides(
    texts: list[str] | None, model: str | None, output: str | None, workers: int | None, limit: int | None
) -> list[str]:
    """The `--set` texts that stand for the short options. Paths given here are relative to where the user stands."""
    from jobs.spec import override

    found = list(texts or [])
    if model is not None:
        is_path = model != "default" and "://" not in model
        found.append(override("model.source", str(Path(model).absolute()) if is_path else model))
    if output is not None:
        found.append(override("output.path", output if "://" in output else str(Path(output).absolute())))
    if workers is not None:
        found.append(override("run.workers", workers))
    if limit is not None:
        found.append(override("limit", limit))
    return found


def _options(quiet: bool, verbose: bool, no_progress: bool, fail_fast: bool) -> Any:
    from jobs.run import RunOptions

    return RunOptions(
        progress="none" if quiet else "silent" if no_progress else "auto",
        verbose=verbose,
        fail_fast=fail_fast,
        faults=os.environ.get(FAULT_VARIABLE, ""),
        handle_signals=True,
    )


def _finish(result: Any, as_json: bool, quiet: bool) -> None:
    from jobs.show import one_row_of_each, summary_line

    if as_json:
        fields = ("documents", "failed", "tokens", "tokens_fed", "seconds")
        data({"run": str(result.path), "exit_code": int(result.exit_code), **{f: getattr(result, f) for f in fields}})
    elif not quiet:
        say(summary_line(result))
        if result.exit_code in (ExitCode.OK, ExitCode.FAILURES):
            for text in one_row_of_each(result):
                say(text)
    if result.exit_code is ExitCode.INTERRUPTED:
        complain(f"interrupted after a checkpoint; to go on: unspool resume {shlex.quote(str(result.path))}")
    raise typer.Exit(int(result.exit_code))


def _show_plan(path: Path, overrides: list[str], as_json: bool, measure: bool = True) -> None:
    from jobs.estimate import estimate
    from jobs.plan import plan_job
    from jobs.run import load_job

    job = load_job(path, overrides)
    planned = plan_job(job)
    expected = estimate(job, planned, measure)
    if as_json:
        data({**planned.to_json(), "seconds_left_estimate": expected.seconds, "estimate": asdict(expected)})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("document", "size", "pages, about", "tokens, about", ""):
        table.add_column(heading, justify="left" if heading in ("document", "") else "right", overflow="fold")
    for document in planned.documents:
        what = f"{document.action} ({document.reason_code}): {document.reason}"
        pages = "" if document.pages_estimate is None else f"{document.pages_estimate:,}"
        cells = (document.uri, human_bytes(document.bytes), pages, f"{document.tokens_estimate:,}", what)
        table.add_row(*(Text(safe(cell)) for cell in cells))
    console = data_console()
    console.print(table)
    console.print("\n" + ", ".join(f"{count:,} {what}" for what, count in planned.counts.items()), highlight=False)
    read = f"\n{human_bytes(planned.bytes_left)} to read, about {planned.tokens_left_estimate:,} tokens"
    console.print(f"{read}; {_expected(expected)}.", highlight=False)


def _expected(expected: Estimate) -> str:
    """Time and memory in words, as far as they are known."""
    if expected.seconds == 0:
        return expected.basis
    if not expected.tokens_per_second or expected.seconds is None:
        return f"how long it takes: {expected.basis}"
    workers = f"{expected.workers} worker{'s' * (expected.workers > 1)}" if expected.workers else "this process"
    took = f"about {human_seconds(expected.seconds)} at {expected.tokens_per_second:,.0f} tokens/s in {workers}"
    if expected.peak_memory_bytes is None or expected.worker_memory_bytes is None:
        return f"{took} ({expected.basis})"
    each = f", {human_bytes(expected.worker_memory_bytes)} a worker" if expected.workers else ""
    return f"{took}, with {human_bytes(expected.peak_memory_bytes)} of memory{each} ({expected.basis})"


def _show_status(now: Any) -> None:
    console = data_console()
    done = f"{now.done} done, {now.failed} failed of {now.documents} documents, {now.tokens:,} tokens"
    console.print(Text(safe(f"{now.run} ({now.name}): {now.state}; {done}")))
    if now.state != "finished":
        rate = f"{now.tokens_per_second:,.0f} tokens/s" if now.tokens_per_second else "no speed known"
        age = now.last_checkpoint_age
        saved = f"newest checkpoint {human_seconds(age)} old" if age is not None else "no checkpoint yet"
        console.print(Text(safe(f"  {rate}; {saved}; epoch {now.epoch}, {now.owner}")))
    for document in now.open:
        console.print(Text(safe(f"  open: {document.uri}, saved at token {document.tokens:,}")))
    for failure in now.failures:
        console.print(Text(safe(f"  failed: {failure.uri}: {failure.reason}")))
