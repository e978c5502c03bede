"""Commands on model files: `unspool model …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, Source, data, say
from jobs.errors import safe


def register(app: typer.Typer) -> None:
    """Add the commands of this module, as a group."""
    group = typer.Typer(
        help="Say what a model file is, convert it, check it.", no_args_is_help=True, rich_markup_mode=None
    )
    for name, command in (
        ("inspect", inspect),
        ("convert", convert),
        ("ls", list_),
        ("verify", verify),
        ("pull", pull),
    ):
        group.command(name)(command)
    app.add_typer(group, name="model")


def inspect(source: Source, as_json: AsJson = False) -> None:
    """Say what a file is: generation, sizes, container, ways of storing, tokenizer."""
    from jobs.models import inspect_model, lines_of, to_json

    found = inspect_model(source)
    if as_json:
        data(to_json(found))
        return
    for line in lines_of(found):
        typer.echo(safe(line))


def convert(
    source: Source,
    target: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT.safetensors")],
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or auto: as stored.")] = "auto",
) -> None:
    """Write a model as one safetensors file with RWKV-LM names, which loads fastest."""
    from jobs.models import convert_model

    say(safe(f"written to {convert_model(source, target, dtype)}"))


def pull(
    repo: Annotated[str, typer.Argument(help="The repository on the Hugging Face Hub.", metavar="OWNER/REPO")],
    file: Annotated[str, typer.Option("--file", help="The weights file in it.", metavar="NAME")],
    revision: Annotated[str, typer.Option("--revision", help="The commit, 40 hexadecimal digits.", metavar="SHA")],
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the Hugging Face Hub into its cache, where jobs find it without a network."""
    from jobs.models import pull_model

    found = pull_model(repo, file, revision)
    if as_json:
        data(found)
        return
    say(safe(f"{found['path']}, SHA-256 {found['sha256']}; in a job, write `source: {found['source']}`"))


def list_(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders to look in.", metavar="[FOLDER]...")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped model and the models below the folders (by default, the one you are in)."""
    from jobs.models import lines_of, list_models, to_json

    found = list_models(folders or [Path()])
    if as_json:
        data([to_json(one) for one in found])
        return
    for one in found:
        typer.echo(safe(next(iter(lines_of(one)))))


def verify(
    source: Source,
    sha256: Annotated[str | None, typer.Option("--sha256", help="What the hash of the weights must be.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a model strictly and read a few tokens with it; exit 7 on anything wrong."""
    from jobs.models import verify_model

    found = verify_model(source, sha256)
    if as_json:
        data(found)
    else:
        say(safe(f"{found['path']}: sound, RWKV-{found['generation']}, SHA-256 {found['weights_sha256']}"))
