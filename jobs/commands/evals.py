"""The command on the quality of results: `unspool eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands.options import AsJson, Model, data, say

if TYPE_CHECKING:
    from pipeline.evals import Table


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(name="eval")(evaluate)


def evaluate(
    name: Annotated[str | None, typer.Argument(help="The eval; without one, they are listed.", metavar="NAME")] = None,
    folder: Annotated[Path, typer.Option("--data", help="The folder with labelled data.", metavar="DIR")] = Path(),
    model: Model = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Measure on the first N items only.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Add the result, as a JSON line, to this file.")] = None,
    page: Annotated[Path | None, typer.Option("--markdown", help="Write the table to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the quality of results on labelled data, beside simple methods measured by the same code."""
    from jobs import evals
    from jobs.run_directory import refuse_unwritable

    if name is None:
        _list(evals.eval_list(), as_json)
        return
    for target in filter(None, (out, page)):
        refuse_unwritable(target)
    found = evals.evaluate(name, folder, model or "default", limit)
    if as_json:
        data(evals.record(found))
    else:
        show(found.table)
        say(f"{found.seconds:.1f} s")
    if out is not None:
        evals.append(out, found)
    if page is not None:
        evals.write_markdown(page, found)


def _list(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        data(found)
        return
    width = max(len(one["name"]) for one in found)
    for one in found:
        typer.echo(f"{one['name']:<{width}}  {one['measures']}")


def show(table: Table) -> None:
    """Print a table of an eval on stdout."""
    from rich.table import Table as Shown
    from rich.text import Text

    from jobs.evals import cells
    from jobs.terminal import data_console

    heads, rows = cells(table)
    shown = Shown(title=Text(f"{table.name}: {table.data}"), title_justify="left")
    for place, head in enumerate(heads):
        shown.add_column(Text(head), justify="right" if place else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    console = data_console()
    console.print(shown)
    for note in table.notes:
        console.print(Text(f"* {note}"))
