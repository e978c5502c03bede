"""Commands to begin with: a job file for a folder, and what this machine can do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, Model, data, say
from jobs.errors import safe, usage_error


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (init, doctor):
        app.command()(command)


def init(
    folder: Annotated[Path, typer.Argument(help="The folder with your documents.", metavar="[FOLDER]")] = Path(),
    job: Annotated[Path, typer.Option("--job", help="The file to write.", metavar="JOB.yaml")] = Path("job.yaml"),
) -> None:
    """Write a job file for the documents in a folder, with comments."""
    from jobs.spec import json_schema
    from jobs.starter import SCHEMA_NAME, starter

    text = starter(folder, job)
    try:
        with job.open("x", encoding="utf-8") as file:
            file.write(text)
        job.with_name(SCHEMA_NAME).write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    except FileExistsError:
        raise usage_error("INIT-EXISTS", "there is a file already; name another one with --job", str(job)) from None
    except OSError as error:
        raise usage_error("INIT-WRITE", f"cannot be written: {error.strerror}; name another place", str(job)) from error
    say(safe(f"written to {job}; see what it would read: unspool plan {shlex.quote(str(job))}"))


def doctor(
    as_json: AsJson = False,
    recall: Annotated[bool, typer.Option("--recall", help="Measure how far back the model remembers.")] = False,
    full: Annotated[bool, typer.Option("--full", help="With --recall: more facts, further back, more often.")] = False,
    chart: Annotated[
        Path | None, typer.Option("--chart", help="With --recall: also draw it, as .svg or .png.", metavar="FILE")
    ] = None,
    model: Model = None,
) -> None:
    """Say what is fast here, what is missing, and what it would take; with --recall, what the model remembers."""
    if recall:
        _recall(model or "default", full, chart, as_json)
        return
    if full or chart is not None:
        raise usage_error("USAGE", "--full and --chart are about what is remembered; add --recall")
    from jobs.doctor import examine

    findings = examine()
    if as_json:
        data([finding.to_json() for finding in findings])
        return
    for finding in findings:
        typer.echo(safe(f"{finding.mark} {finding.what}: {finding.found}"))
        if finding.advice:
            typer.echo(safe(f"    {finding.advice}"))


def _recall(model: str, full: bool, chart: Path | None, as_json: bool) -> None:
    from jobs.recall import check_picture, draw, lines_of, measure

    if chart is not None:
        check_picture(chart)
    found = measure(model, full)
    if chart is not None:
        draw(found, chart)
    if as_json:
        data(found.to_json())
        return
    for line in lines_of(found):
        typer.echo(safe(line))
