"""Commands on kept states: `unspool state …`. None of them changes a state."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, RunPath, data, say
from jobs.errors import ExitCode, JobError, safe
from jobs.progress import human_bytes

StatePath = Annotated[Path, typer.Argument(help="A state file.", metavar="STATE")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module, as a group."""
    group = typer.Typer(
        help="Look at the states that a run has kept: list, inspect, compare, export, check.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name, command in (
        ("ls", list_),
        ("inspect", inspect),
        ("diff", diff),
        ("export", export),
        ("verify", verify),
        ("gc", collect),
    ):
        group.command(name)(command)
    app.add_typer(group, name="state")


def list_(run: RunPath, as_json: AsJson = False) -> None:
    """List the kept states of a run: document, kind, tokens before it, size, SHA-256 and path."""
    from jobs.states import list_states

    found = list_states(run)
    if as_json:
        data([state.to_json() for state in found])
        return
    for state in found:
        place = [f"{state.tokens:,} tokens", human_bytes(state.bytes), state.sha256[:12], state.path]
        typer.echo("\t".join(map(safe, [state.uri, state.kind, *place])))


def inspect(state: StatePath, as_json: AsJson = False) -> None:
    """Say what a state file holds: of which model, behind how many tokens, which tensors, its hash."""
    from jobs.states import inspect_state

    found = inspect_state(state)
    if as_json:
        data(found)
        return
    typer.echo(safe(f"{found['path']}: RWKV-{found['generation']}, model {found['model_fingerprint'][:12]}"))
    typer.echo(f"  behind {found['tokens_seen']:,} tokens; {human_bytes(found['bytes'])}, SHA-256 {found['sha256']}")
    for name, shape in found["tensors"].items():
        typer.echo(safe(f"  {name} {shape} float32"))


def diff(
    one: StatePath,
    other: Annotated[Path, typer.Argument(help="The state file to compare it with.", metavar="OTHER")],
    as_json: AsJson = False,
) -> None:
    """Say how two states of one model differ, tensor by tensor; exit 4 if they are of different models."""
    from jobs.states import compare_states

    found = compare_states(one, other)
    if as_json:
        data([asdict(difference) for difference in found])
        return
    for difference in found:
        if difference.layer is None:
            typer.echo(safe(f"{difference.name}: the same"))
            continue
        share = "" if difference.relative is None else f", {difference.relative:.2%} of its length"
        typer.echo(safe(f"{difference.name}: up to {difference.largest:.3g}, in layer {difference.layer}{share}"))


def export(
    run: RunPath,
    document: Annotated[str, typer.Argument(help="A document, by its id or address.", metavar="DOC")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE")],
    kind: Annotated[str, typer.Option("--kind", help="end, boundary or standing.")] = "end",
) -> None:
    """Copy a kept state to one file, checked against the ledger."""
    from jobs.states import export_state

    say(safe(f"written to {export_state(run, document, kind, output)}"))


def verify(
    target: Annotated[Path, typer.Argument(help="A state file or a run directory.", metavar="STATE|RUN")],
    as_json: AsJson = False,
) -> None:
    """Check a state file, or all kept states of a run; exit 6 on any difference."""
    from jobs.states import verify_states

    found = verify_states(target)
    if as_json:
        data({"target": str(target), "differences": found})
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise JobError("VERIFY", f"{found[0]}{more}", exit_code=ExitCode.ENVIRONMENT, where=str(target))
    if not as_json:
        say(safe(f"{target}: whole"))


def collect(
    run: RunPath,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files in `states/` that the run's ledger does not name."""
    from jobs.states import collect_states

    names = collect_states(run, dry_run)
    if as_json:
        data({"run": str(run), "removed": [] if dry_run else names, "left_over": names})
        return
    what = "would be removed" if dry_run else "removed"
    say(safe(f"{run}: {len(names)} file(s) {what}" + (f", the first is {names[0]}" if names else "")))
