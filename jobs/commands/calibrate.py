"""The command that finds out how a model's vectors are best: `unspool calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, Model, data
from jobs.errors import safe


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(calibrate)


def calibrate(
    documents: Annotated[list[Path], typer.Argument(help="Documents of the kind that is to be read.", metavar="FILE…")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The profile to write.")] = Path("profile.safetensors"),
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="Scored pairs, as JSON lines with a, b and score.", metavar="FILE")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Find the layer, the way of reading and the map that make a model's vectors best, and write them as a profile."""
    from jobs.calibrate import calibrate as found_by
    from jobs.calibrate import lines_of

    found = found_by(documents, model or "default", pairs, output)
    if as_json:
        data(found.to_json())
        return
    for line in lines_of(found):
        typer.echo(safe(line))
