"""Notebooks run without Jupyter: each cell in turn, in one namespace, and what it shows beside what is stored with it.

    python -m tests.notebook [--write] NOTEBOOK.ipynb...

A cell shows what it prints and the value of its last line, as Jupyter does. `--write` stores what is shown now.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.console import is_near, standing_in

Notebook = dict[str, Any]


def code_cells(notebook: Notebook) -> Iterator[dict[str, Any]]:
    """The cells that are run."""
    yield from (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run one cell; what it prints and, if its last line is an expression that is not None, its value."""
    body = ast.parse(source)
    last = ast.Expression(body.body.pop().value) if isinstance(body.body[-1], ast.Expr) else None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, "<cell>", "exec"), names)
        value = eval(compile(last, "<cell>", "eval"), names) if last else None
    printed = {"name": "stdout", "output_type": "stream", "text": out.getvalue().splitlines(keepends=True)}
    result = {"data": {"text/plain": [repr(value)]}, "metadata": {}, "output_type": "execute_result"}
    found = [printed] if out.getvalue() else []
    return found if value is None else [*found, {**result, "execution_count": number}]


def text_of(shown: list[dict[str, Any]]) -> str:
    """What a reader sees of a cell's outputs."""
    return "\n".join("".join(one.get("text") or one["data"]["text/plain"]) for one in shown)


def run(notebook: Notebook) -> Notebook:
    """The notebook as it is once every cell has been run. The working directory is to be the root of the tree."""
    names: dict[str, Any] = {"__name__": "__main__"}
    ran = copy.deepcopy(notebook)
    for number, cell in enumerate(code_cells(ran), start=1):
        cell["execution_count"], cell["outputs"] = number, outputs("".join(cell["source"]), names, number)
    return ran


def differences(before: Notebook, now: Notebook) -> list[str]:
    """The sources of the cells that show something else now."""
    pairs = zip(code_cells(before), code_cells(now), strict=True)
    return [
        "".join(old["source"]) for old, new in pairs if not is_near(text_of(old["outputs"]), text_of(new["outputs"]))
    ]


def main(arguments: list[str]) -> int:
    """Compare or rewrite notebooks; the number of those that are not true."""
    wrong = 0
    for path in [Path(name).absolute() for name in arguments if name != "--write"]:
        notebook = json.loads(path.read_text("utf-8"))
        with tempfile.TemporaryDirectory() as folder, standing_in(Path(folder)):
            ran = run(notebook)
        if "--write" in arguments:
            path.write_text(json.dumps(ran, ensure_ascii=False, indent=1) + "\n", "utf-8")
        wrong += bool(differences(notebook, ran)) and "--write" not in arguments
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
