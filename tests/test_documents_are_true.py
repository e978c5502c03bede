"""README and its neighbours say what is there: links, files, commands, options, job files."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rwkv_runtime
from jobs.spec import load_spec
from tests.jobs.project import REPOSITORY, unspool

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "examples").rglob("*.md"), *(REPOSITORY / ".ci").glob("*.md")])
PAGES = [page for page in PAGES if page.parent.name != "documents" or page.name == "README.md"]
COMMANDED = [page for page in PAGES if page.parent == REPOSITORY or page.parent.name == "cookbook"]
COMMANDED += [REPOSITORY / "Makefile", REPOSITORY / "llms.txt"]
README = (REPOSITORY / "README.md").read_text("utf-8")
ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text("utf-8")

_LINK = re.compile(r"\]\(([^)#\s]+)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:^|[\s/])unspool ([a-z]+)\b([^\n#]*)")
_FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|md|yaml|toml|txt)")


def fences(text: str, language: str = "") -> list[str]:
    return [body for kind, body in _FENCE.findall(text) if kind == language]


def code(page: Path) -> str:
    """What stands on a page as code; of a Makefile, everything."""
    text = page.read_text("utf-8")
    if page.suffix not in (".md", ".txt"):
        return text
    return "\n".join([body for _, body in _FENCE.findall(text)] + _CODE.findall(_FENCE.sub("", text)))


def calls() -> Iterator[tuple[str, str, str]]:
    """Every `unspool COMMAND …` that a page shows: page, command, the rest of the line."""
    for page in COMMANDED:
        for command, rest in _CALL.findall(code(page)):
            yield page.name, command, rest


def tree(text: str, heading: str) -> Iterator[Path]:
    """The paths that a tree under a heading names: folders end in a slash, what is indented lies in them."""
    [block] = fences(text[text.index(heading) :].split("\n## ")[0])
    folder = REPOSITORY
    for line in block.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not line.startswith(" "):
            folder = REPOSITORY / names[0]
            yield folder
        else:
            yield from (folder / name for name in names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link and "mailto:" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", COMMANDED, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = {
        name
        for name in _FILE.findall(code(page))
        if name.split("/")[0] in ("rwkv_runtime", "pipeline", "jobs", "tests", "examples")
    }

    assert [name for name in sorted(named) if not (REPOSITORY / name).exists() and "/x.py" not in name] == []


@pytest.mark.parametrize(
    ("text", "heading"),
    [(README, "## The tree"), (ARCHITECTURE, "## Where things are")],
    ids=["README", "ARCHITECTURE"],
)
def test_the_tree_shows_what_is_there(text: str, heading: str) -> None:
    paths = list(tree(text, heading))

    assert len(paths) > 5
    assert [path.relative_to(REPOSITORY).as_posix() for path in paths if not path.exists()] == []


def test_the_tree_of_the_readme_leaves_no_folder_out() -> None:
    shown = {path.name for path in tree(README, "## The tree") if path.parent == REPOSITORY}
    there = {path.parent.name for path in REPOSITORY.glob("*/*.py")} | {"examples"}

    assert there <= shown


def test_every_command_that_is_shown_exists_and_knows_the_options_shown() -> None:
    shown = list(calls())
    helps = {command: unspool(command, "--help") for _, command, _ in shown}

    assert {"run", "plan", "status"} <= set(helps)
    assert [f"{page}: unspool {command}" for page, command, _ in shown if helps[command].code != 0] == []
    options = [
        (page, command, option) for page, command, rest in shown for option in re.findall(r"\s(--?[a-z-]+)", rest)
    ]
    assert [found for found in options if not re.search(rf"{found[2]}\b", helps[found[1]].out)] == []


def test_the_readme_names_every_command() -> None:
    listed = re.findall(r"^  ([a-z]+)  ", unspool("--help").out.split("Commands:")[1], re.MULTILINE)

    assert len(listed) >= 6
    assert [name for name in listed if not re.search(rf"\b{name}\b", code(REPOSITORY / "README.md"))] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for page in COMMANDED if page.suffix == ".md" for name in re.findall(r"\bmake ([a-z]+)", code(page))}

    assert {"demo", "test"} <= named <= targets
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text("utf-8")


def test_every_module_that_is_called_by_name_exists() -> None:
    named = {name for page in COMMANDED for name in re.findall(r"python -m (tests[\w.]+)", code(page))}

    assert [name for name in sorted(named) if not (REPOSITORY / f"{name.replace('.', '/')}.py").exists()] == []


def test_the_job_file_of_the_readme_is_one(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    [text] = fences(README, "yaml")
    job.write_text(text, "utf-8")

    assert load_spec(job).tasks


def test_the_python_of_the_readme_uses_what_is_there() -> None:
    [text] = fences(README, "python")

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "rwkv_runtime":
            assert hasattr(rwkv_runtime, node.attr)


def test_the_rows_that_the_readme_shows_stand_at_their_spans() -> None:
    documents = REPOSITORY / "examples" / "documents"
    novel, specification = ((documents / name).read_text("utf-8") for name in ("moby-dick.txt", "rfc9001.md"))
    rows = re.findall(r"^\| d\w+#s\d+ \| (\d+) \| (\d+) \| ([^|]+) \|", README, re.MULTILINE)

    assert len(rows) == 3
    for start, end, text in rows:
        assert " ".join(novel[int(start) : int(end)].split()).startswith(text.rstrip("…"))
    spans = re.findall(r"`\[(\d+), (\d+)\)`", README)
    passages = [" ".join(specification[int(start) : int(end)].split()) for start, end in spans]
    shown = " ".join(README.replace("\n> ", " ").split())
    assert len(passages) == 5
    assert [passage for passage in passages if passage not in shown] == []


def test_a_state_takes_as_much_room_as_the_readme_says(tmp_path: Path) -> None:
    model = rwkv_runtime.load("default")
    state = model.forward(model.tokenizer.encode("Call me Ishmael."), model.initial_state()).state
    state.to_arrow(tmp_path / "ishmael.arrow")

    [said] = re.findall(r"to_arrow\(.*\)\s+# ([\d,]+) KiB", README)
    assert round((tmp_path / "ishmael.arrow").stat().st_size / 1024) == int(said.replace(",", ""))


def test_no_figure_is_left_to_be_filled_in() -> None:
    assert [
        mark for page in COMMANDED for mark in re.findall(r"@[A-Z_]+@|\bTODO\b|\bTBD\b", page.read_text("utf-8"))
    ] == []


def test_every_dependency_is_pinned_to_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    lines = [
        line for line in (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines() if line and line[0] != "#"
    ]

    assert [
        line for line in lines if not re.fullmatch(r"[\w.\[\]-]+==[\w.+!]+(?:\s*;.*)?", line.split(" #")[0].strip())
    ] == []
    pinned = {_normal(line.split("==")[0]) for line in lines}
    assert [name for name in wanted if _normal(re.split(r"[<>=!~\[; ]", name)[0]) not in pinned] == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.mark.parametrize("page", ["COMPLAINTS.md", "RELIABILITY.md", "SECURITY.md"])
def test_every_test_that_a_promise_rests_on_exists(page: str) -> None:
    named = _NAMED_TEST.findall((REPOSITORY / page).read_text("utf-8"))

    assert len(named) >= 10
    for path, name in named:
        functions = ast.walk(ast.parse((REPOSITORY / path).read_text("utf-8")))
        assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, f"{path} has no {name}"
