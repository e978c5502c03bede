"""Commands to begin with: a job file for a folder, and what this machine can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, data, say
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
    say(safe(f"written to {job}; see what it would read: unspool plan {job}"))


def doctor(as_json: AsJson = False) -> None:
    """Say what is fast here, what is missing, and what it would take."""
    from jobs.doctor import examine

    findings = examine()
    if as_json:
        data([finding.to_json() for finding in findings])
        return
    for finding in findings:
        typer.echo(safe(f"{finding.mark} {finding.what}: {finding.found}"))
        if finding.advice:
            typer.echo(safe(f"    {finding.advice}"))
