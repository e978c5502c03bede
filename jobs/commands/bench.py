"""The command `unspool bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import AsJson, data, say
from jobs.errors import safe

INSTALL = "no picture: `pip install unspool[bench]` brings matplotlib"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("bench")(bench)


def bench(
    size: Annotated[list[str] | None, typer.Option(help="A public size (0.1B … 13.3B) or LAYERSxWIDTH.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="fp32, bf16, fp16, int8 or int4; several times.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads to compute with.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds that medians are taken of.")] = 5,
    longest: Annotated[int, typer.Option(help="Tokens of the longest document; 0 leaves documents out.")] = 16384,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for results.")] = Path("out/bench"),
    as_json: AsJson = False,
) -> None:
    """Measure this machine: reading and writing by size and precision, length, checkpoints, tokenizer."""
    from jobs.bench import Options, keep, lines_of, measure, to_json

    standard = Options()
    report = measure(Options(size or standard.sizes, dtype or standard.dtypes, threads, rounds, longest))
    written = keep(report, output)
    if as_json:
        data(to_json(report))
    else:
        for line in lines_of(report):
            typer.echo(safe(line))
    say(safe(f"written to {', '.join(map(str, written))}" + ("" if len(written) > 1 else f"; {INSTALL}")))
