"""Every command that there is, over one small finished run: it works, refuses what it must, and keeps stdout for data.

A command without a row here fails; so does a row without a command.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer.main

from jobs import cli
from jobs.errors import ExitCode
from tests.jobs.project import JOB, TASKS, Project, Said, contents, prose, unspool

NOTHING = "{tmp}/nothing"
BENCH = "--size 1x64 --dtype fp32 --rounds 1 --longest 0 --threads 1 -o {tmp}/bench"


@dataclass(frozen=True)
class Row:
    """How a command is used: what works, with what result and whether stdout has data then; what must be refused.

    `only_json` leaves the other form to the tests of the command: it takes seconds.
    """

    works: str
    refused: str
    code: int = 0
    refused_with: int = 2
    has_data: bool = True
    changes: bool = False
    only_json: bool = False


ROWS = {
    "ask": Row("{run} 'Who keeps the box?'", f"{NOTHING} Why?"),
    "bench": Row(BENCH, f"{BENCH} --dtype fp8", only_json=True),
    "calibrate": Row("--help", f"{NOTHING} -m {{model}} -o {{tmp}}/p.safetensors"),  # reads 800 sentences a way
    "doctor": Row("", "extra"),
    "embed": Row("{file} -m {model} -q", NOTHING),
    "eval": Row("", "nosuch"),
    "export": Row("{run} --to jsonl -o {tmp}/rows", "{run} --to nosuch", has_data=False),
    "extract": Row("{file} -m {model} -q", NOTHING, only_json=True),
    "init": Row("{docs} --job {tmp}/new.yaml", f"{NOTHING} --job {{tmp}}/other.yaml", has_data=False),
    "model convert": Row(
        "{model} {tmp}/m.safetensors", f"{NOTHING} {{tmp}}/n.safetensors", refused_with=7, has_data=False
    ),
    "model inspect": Row("{model}", NOTHING, refused_with=7),
    "model ls": Row("{docs}", "--nosuch"),
    "model pull": Row("--help", "owner/repo --file x --revision main", refused_with=7),
    "model verify": Row("{model}", NOTHING, refused_with=7, has_data=False),
    "plan": Row("{job}", NOTHING),
    "report": Row("{run}", NOTHING, refused_with=6, has_data=False, changes=True),
    "resume": Row("{run} -j 0", NOTHING, refused_with=6, has_data=False, changes=True),
    "retry": Row("{run} --doc docs/b.txt -j 0", "{run}", has_data=False, changes=True, only_json=True),
    "run": Row("{job}", NOTHING, has_data=False, changes=True),
    "schema": Row("", "extra"),
    "search": Row("{run} 'old captain'", f"{NOTHING} x", refused_with=6),
    "show": Row("{run} docs/a.txt", "{run} nosuch"),
    "state diff": Row("{state} {state}", f"{{state}} {NOTHING}"),
    "state export": Row("{run} docs/a.txt -o {tmp}/state", "{run} nosuch -o {tmp}/s", has_data=False),
    "state gc": Row("{run} -n", NOTHING, refused_with=6, has_data=False),
    "state inspect": Row("{state}", NOTHING),
    "state ls": Row("{run}", NOTHING, refused_with=6),
    "state verify": Row("{run}", "{file}", refused_with=6, has_data=False),
    "status": Row("{run}", NOTHING, refused_with=6),
    "submit": Row("{job} --slurm", "{job}"),
    "summarize": Row("{file} -m {model} -q", NOTHING, only_json=True),
    "verify": Row("{run}", NOTHING, refused_with=6, has_data=False),
}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its words, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run over two documents, read by a random model."""
    project = Project(
        tmp_path_factory.mktemp("commands") / "project", a=f"{prose(20)} Due on 3 March 2020.", b=prose(9)
    )
    tasks = [*TASKS, {"name": "terms", "type": "extract"}]
    project.write_job(model={**JOB["model"], "source": str(project.write_model())}, tasks=tasks)
    assert project.run().code == 0
    return project


@pytest.fixture
def call(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setattr(sys, "stdin", None)  # nothing here reads it
    places = {
        "run": project.out,
        "job": project.job,
        "docs": project.folder / "docs",
        "file": project.folder / "docs" / "a.txt",
        "model": project.folder / "models" / "tiny.pth",
        "state": next((project.out / "states").glob("*.end.arrow")),
        "tmp": tmp_path,
    }

    def called(name: str, arguments: str, *more: str) -> Said:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", arguments)]
        return unspool(*name.split(), *(word.format(**places) for word in words), *more)

    with mock.patch("jobs.oneshot.processors", lambda: 1):
        yield called


def takes_json(name: str) -> bool:
    return any("--json" in option.opts for option in COMMANDS[name].params)


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    assert ROWS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(name for name in COMMANDS if not ROWS.get(name, Row("", "")).only_json))
def test_a_command_works_and_keeps_stdout_for_data(call, project: Project, name: str) -> None:  # type: ignore[no-untyped-def]
    row, before = ROWS[name], contents(project.out)

    said = call(name, row.works)

    assert said.code == row.code, said.err
    assert bool(said.out) == row.has_data, (said.out, said.err)
    assert "Traceback" not in said.err and "\x1b" not in said.out + said.err
    assert row.changes or contents(project.out) == before, "it changed the run"


@pytest.mark.parametrize("name", sorted(filter(takes_json, COMMANDS)))
def test_with_json_stdout_is_one_json_value(call, name: str) -> None:  # type: ignore[no-untyped-def]
    said = call(name, ROWS[name].works, "--json")

    if "--help" not in ROWS[name].works:
        json.loads(said.out)
    assert said.code == ROWS[name].code, said.err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_a_command_refuses_is_one_line_on_stderr_with_a_code_of_the_contract(call, name: str) -> None:  # type: ignore[no-untyped-def]
    said = call(name, ROWS[name].refused)

    assert (said.code, said.out) == (ROWS[name].refused_with, ""), said.err
    assert said.code in list(ExitCode) and said.code != ExitCode.BUG
    assert (said.err.count("\n"), said.err.startswith("error[")) == (1, True), said.err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_says_what_it_is_for_and_what_each_option_does(name: str) -> None:
    said = unspool(*name.split(), "--help")

    assert (said.code, said.err) == (0, "")
    assert f"Usage: unspool {name}" in said.out
    assert COMMANDS[name].help
    silent = [option.name for option in COMMANDS[name].params if not getattr(option, "help", None)]
    assert silent == []
