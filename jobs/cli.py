"""The command line: arguments in, one call of the package, words and an exit code out. Decides nothing itself.

stdout carries data, stderr carries people's text. Importing this module loads neither torch nor ray.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jobs.errors import ExitCode, JobError, safe
from jobs.progress import human_bytes, human_seconds
from jobs.terminal import data_console, people_console

FAULT_VARIABLE = "UNSPOOL_FAULT"
"""The one environment variable that is read here: places at which tests make the program fail."""

app = typer.Typer(
    name="unspool",
    help="Read documents of any length with RWKV models. The same command again resumes, in mid-document.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

models = typer.Typer(
    help="Say what a model file is, convert it, check it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models, name="model")

JobFile = Annotated[Path, typer.Argument(help="The job file (YAML).", metavar="JOB.yaml")]
RunPath = Annotated[Path, typer.Argument(help="The run directory.", metavar="RUN")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change an option of the job: tasks.gist.max_sentences=3.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="The model: `default` or a path.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The run directory to use.")]
Workers = Annotated[int | None, typer.Option("--workers", "-j", help="Ray workers; 0 reads in this process.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Read only the first N documents.")]
Source = Annotated[str, typer.Argument(help="The model: `default`, a file or a folder.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also say when each document is done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress display.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first document that fails.")]


def main() -> None:
    """Run the command line; ends the process with the exit code of the contract."""
    try:
        # Typer hands the code of `typer.Exit` back instead of ending the process with it.
        sys.exit(app(prog_name="unspool", standalone_mode=False) or ExitCode.OK)
    except JobError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.SIGINT)
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    except Exception as error:
        sys.exit(_usage_error(error) or _bug(error))


@app.command()
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
) -> None:
    """Run a job; the same command again resumes it."""
    texts = _overrides(overrides, model, output, workers, limit)
    if dry_run:
        _show_plan(job, texts, as_json)
        return
    from jobs.run import run_job

    _finish(run_job(job, texts, _options(quiet, verbose, no_progress, fail_fast)), as_json, quiet)


@app.command()
def resume(
    run: RunPath,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_progress: NoProgress = False,
    fail_fast: FailFast = False,
) -> None:
    """Continue a run directory with the job that it was started with."""
    from jobs.run import resume_run

    _finish(resume_run(run, _options(quiet, verbose, no_progress, fail_fast), workers), as_json, quiet)


@app.command()
def plan(
    job: JobFile,
    overrides: Overrides = None,
    model: Model = None,
    output: Output = None,
    workers: Workers = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Say what would run, and why each document would or would not."""
    _show_plan(job, _overrides(overrides, model, output, workers, limit), as_json)


@app.command()
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
            typer.echo(json.dumps(now.to_json(), ensure_ascii=False))  # one line each, for whoever reads along
        elif as_json:
            _data(now.to_json())
        else:
            _show_status(now)
        if not watch or now.state != "running":
            return
        time.sleep(2)


@app.command()
def verify(run: RunPath, as_json: AsJson = False) -> None:
    """Check every part, checkpoint and count of a run; exit 6 on any difference."""
    from jobs.run_directory import RunDirectory
    from jobs.verify import verify as differences_of
    from pipeline.durable import Disk

    found = differences_of(RunDirectory.open(run, Disk()))
    if as_json:
        _data({"run": str(run), "differences": found})
    if found:
        first = f"{found[0]} (and {len(found) - 1} more)" if len(found) > 1 else found[0]
        for line in [] if as_json else found:
            _say(line)
        message = f"{first}; run or resume it: what is damaged is made again"
        raise JobError("VERIFY", message, exit_code=ExitCode.ENVIRONMENT, where=str(run))
    if not as_json:
        _say(f"{run}: everything is as the ledger says")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from jobs.spec import json_schema

    _data(json_schema())


@models.command("inspect")
def model_inspect(source: Source, as_json: AsJson = False) -> None:
    """Say what a file is: generation, sizes, container, ways of storing, tokenizer."""
    from jobs.models import inspect_model, lines_of, to_json

    found = inspect_model(source)
    if as_json:
        _data(to_json(found))
        return
    for line in lines_of(found):
        typer.echo(safe(line))


@models.command("convert")
def model_convert(
    source: Source,
    target: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT.safetensors")],
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or auto: as stored.")] = "auto",
) -> None:
    """Write a model as one safetensors file with RWKV-LM names, which loads fastest."""
    from jobs.models import convert_model

    _say(safe(f"written to {convert_model(source, target, dtype)}"))


@models.command("ls")
def model_ls(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders to look in.", metavar="[FOLDER]...")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped model and the models below the folders (by default, the one you are in)."""
    from jobs.models import lines_of, list_models, to_json

    found = list_models(folders or [Path()])
    if as_json:
        _data([to_json(one) for one in found])
        return
    for one in found:
        typer.echo(safe(next(iter(lines_of(one)))))


@models.command("verify")
def model_verify(
    source: Source,
    sha256: Annotated[str | None, typer.Option("--sha256", help="What the hash of the weights must be.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a model strictly and read a few tokens with it; exit 7 on anything wrong."""
    from jobs.models import verify_model

    found = verify_model(source, sha256)
    if as_json:
        _data(found)
    else:
        _say(safe(f"{found['path']}: sound, RWKV-{found['generation']}, SHA-256 {found['weights_sha256']}"))


def _overrides(
    texts: list[str] | None, model: str | None, output: Path | None, workers: int | None, limit: int | None
) -> list[str]:
    """The `--set` texts that stand for the short options. Paths given here are relative to where the user stands."""
    from jobs.spec import override

    found = list(texts or [])
    if model is not None:
        is_path = model != "default" and "://" not in model
        found.append(override("model.source", str(Path(model).absolute()) if is_path else model))
    if output is not None:
        found.append(override("output.path", str(output.absolute())))
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
        _data({"run": str(result.path), "exit_code": int(result.exit_code), **{f: getattr(result, f) for f in fields}})
    elif not quiet:
        _say(summary_line(result))
        if result.exit_code in (ExitCode.OK, ExitCode.FAILURES):
            for text in one_row_of_each(result):
                _say(text)
    if result.exit_code is ExitCode.INTERRUPTED:
        _complain(f"interrupted after a checkpoint; run again to resume {result.path}")
    raise typer.Exit(int(result.exit_code))


def _show_plan(job: Path, overrides: list[str], as_json: bool) -> None:
    from jobs.plan import plan_job
    from jobs.run import load_job

    planned = plan_job(load_job(job, overrides))
    if as_json:
        _data(planned.to_json())
        return
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("document", "left"), ("size", "right"), ("tokens, about", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for document in planned.documents:
        what = f"{document.action}: {document.reason}"
        cells = (document.uri, human_bytes(document.bytes), f"{document.tokens_estimate:,}", what)
        table.add_row(*(Text(safe(cell)) for cell in cells))
    console = data_console()
    console.print(table)
    left = planned.seconds_left_estimate
    time_left = f"about {human_seconds(left)} at this run's own speed" if left else "the time is known once it has run"
    console.print(
        f"\n{human_bytes(planned.bytes_left)} to read, about {planned.tokens_left_estimate:,} tokens; {time_left}.",
        highlight=False,
    )


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


def _data(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _say(text: str) -> None:
    people_console().print(Text(text), soft_wrap=True)


def _complain(text: str) -> None:
    typer.echo(text, err=True)


def _usage_error(error: Exception) -> int | None:
    """What Click says of arguments that it does not understand, in one line."""
    code = getattr(error, "exit_code", None)
    if code is None:
        return None
    message = getattr(error, "format_message", lambda: str(error))()
    _complain(f"error[USAGE] {safe(message.removesuffix('.'))}; see `unspool --help`")
    return int(code)


def _bug(error: Exception) -> int:
    """A traceback goes to a file, one line to the screen."""
    descriptor, path = tempfile.mkstemp(prefix="unspool-traceback-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    _complain(f"error[BUG] {safe(f'{type(error).__name__}: {error}')[:300]}; please report it with {path}")
    return int(ExitCode.BUG)


if __name__ == "__main__":
    main()
