"""Options that several commands have, and how commands speak: stdout carries data, stderr carries people's text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from jobs.terminal import json_text, people_console

JobFile = Annotated[Path, typer.Argument(help="The job file (YAML).", metavar="JOB.yaml")]
RunPath = Annotated[Path, typer.Argument(help="The run directory.", metavar="RUN")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change an option of the job: tasks.gist.max_sentences=3.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="The model: `default` or a path.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="The run directory to use, or its store.")]
Workers = Annotated[int | None, typer.Option("--workers", "-j", help="Ray workers; 0 reads in this process.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Read only the first N documents.")]
Source = Annotated[str, typer.Argument(help="The model: `default`, a file or a folder.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also say when each document is done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress display.")]
RefreshInputs = Annotated[
    bool, typer.Option("--refresh-inputs", help="Also read files that are new, and again those that have changed.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first document that fails.")]


def data(value: Any) -> None:
    """Print one JSON value on stdout."""
    typer.echo(json_text(value, indent=2))


def say(text: str) -> None:
    """Print a line for people on stderr."""
    people_console().print(Text(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print an error's line on stderr, as it is."""
    typer.echo(text, err=True)
