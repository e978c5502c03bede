"""What stands below a command on a page is what the command prints."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from tests import rows
from tests.console import Shell, calls, is_near, rewritten, standing_in
from tests.jobs.project import REPOSITORY
from tests.notebook import code_cells, differences, run

COOKBOOK = REPOSITORY / "examples" / "cookbook"
README = REPOSITORY / "README.md"
NOTEBOOK = REPOSITORY / "examples" / "python.ipynb"
PAGES = [REPOSITORY / "README.md", COOKBOOK / "README.md"]
PAGE = """Before.

```console
$ echo 3.14 | tr 1 2
3.24

$ echo done in 7 s
done in 9 s
```
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """One folder for all pages: a run that one of them makes is finished for the others."""
    return Shell(tmp_path_factory.mktemp("pages"))


@pytest.mark.slow
@pytest.mark.xdist_group("pages")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_commands_of_a_page_print_what_stands_below_them(page: Path, shell: Shell) -> None:
    found = list(calls(page.read_text("utf-8")))

    with contextlib.chdir(shell.folder):
        printed = [shell.run(call.command) for call in found]

    assert found
    differ = [(call, now) for call, now in zip(found, printed, strict=True) if not is_near(call.printed, now)]
    assert differ == [], f"`python -m tests.console --write {page.relative_to(REPOSITORY)}` writes them anew"


@pytest.mark.slow
@pytest.mark.xdist_group("pages")
def test_the_notebook_shows_what_its_cells_give(shell: Shell) -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))

    with contextlib.chdir(shell.folder):
        ran = run(notebook)

    assert len(list(code_cells(notebook))) > 5
    assert differences(notebook, ran) == []


def test_every_file_of_the_cookbook_belongs_to_a_recipe() -> None:
    text = (COOKBOOK / "README.md").read_text("utf-8")
    named = {path.name for path in COOKBOOK.iterdir() if path.name not in ("README.md", "__pycache__")}

    assert sorted(name for name in named if not re.search(rf"\b{re.escape(name)}", text)) == []
    assert len(re.findall(r"^## \d+\. ", text, re.MULTILINE)) == 8


def test_every_document_of_the_cookbook_is_listed_with_its_licence() -> None:
    table = (COOKBOOK / "README.md").read_text("utf-8").split("| file |")[1]
    listed = {name for row in table.splitlines()[2:] for name in row.split("|")[1].replace(",", " ").split()}
    documents = [path for folder in ("contracts", "novel", "log", "talks") for path in (COOKBOOK / folder).iterdir()]

    names = {path.relative_to(COOKBOOK).as_posix() for path in documents}
    assert {name for name in names if not {name, f"{name.split('/')[0]}/"} & listed} == set()
    assert sum(path.stat().st_size for path in documents) <= 300_000


def test_a_page_written_anew_has_what_is_printed_now_and_nothing_else_changed(tmp_path: Path) -> None:
    with standing_in(tmp_path) as shell:
        assert rewritten(PAGE, shell) == PAGE.replace("9 s", "7 s")


def test_a_command_that_fails_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such file"):
        Shell(tmp_path).run("unspool summarize nowhere.txt | head -1")


@pytest.mark.parametrize(
    ("stands", "printed", "near"),
    [
        ("in 7 s", "in 2 min 04 s", True),
        ("at 0.93, 94%", "at 0.94, 95%", True),
        ("at 0.93", "at 0.99", False),
        ("12 rows", "13 rows", False),
        ("a 1.0", "b 1.0", False),
    ],
)
def test_times_and_last_digits_may_differ_and_nothing_else(stands: str, printed: str, near: bool) -> None:
    assert is_near(stands, printed) is near


@pytest.mark.slow
def test_the_rows_of_the_readme_are_those_that_the_quickstart_makes(tmp_path: Path) -> None:
    page = README.read_text("utf-8")

    made = rows.shown(rows.rewritten(page, tmp_path))

    assert len(made) == 3
    assert rows.are_near(rows.shown(page), made), f"{made}; `python -m tests.rows --write` writes them anew"


def test_rows_with_another_id_span_text_or_vector_are_not_the_same() -> None:
    row = "| d1#s0000293 | 5 | 9 | Call. | [-0.413, 0.060, …] (384) |"

    assert rows.are_near([row], [row.replace("0.413", "0.414")])
    for old, new in (("293", "302"), ("| 9", "| 8"), ("Call", "Fall"), ("0.413", "0.197"), ("384", "385")):
        assert not rows.are_near([row], [row.replace(old, new)])
