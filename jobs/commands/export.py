"""The command that hands the tables of a finished run on to other tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, RunPath, data, say
from jobs.errors import safe, usage_error


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)


def export(
    run: RunPath,
    to: Annotated[str, typer.Option("--to", help="hf, lance, duckdb, pgvector, jsonl or csv.", metavar="SINK")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file or folder to make; beside the run if not given.")
    ] = None,
    tables: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table; may be given again.", metavar="NAME")
    ] = None,
    dims: Annotated[int | None, typer.Option("--dims", help="Keep the first N dimensions of vectors.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="csv: leave text as it is, formulas too.")] = False,
    dsn: Annotated[str | None, typer.Option("--dsn", help="pgvector: write into this database.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hand the tables of a finished run on: a dataset folder, a database, files for a spreadsheet."""
    from jobs.export import ExportRequest, export_to_path, export_to_server

    request = ExportRequest(to, tuple(tables or ()), dims, raw)
    if dsn is not None and output is not None:
        raise usage_error("EXPORT-OPTION", "rows go into a database (--dsn) or into a file (-o); give one of them")
    done = export_to_path(run, request, output) if dsn is None else export_to_server(run, request, dsn)
    if as_json:
        data(asdict(done))
        return
    rows = ", ".join(f"{name} {count:,}" for name, count in done.rows.items())
    say(safe(f"written to {done.target}: {rows} rows"))
