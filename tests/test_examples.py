"""The examples are true: each job file loads, plans and runs, and every document says where it comes from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.jobs.project import REPOSITORY, unspool

EXAMPLES = REPOSITORY / "examples"
JOBS = sorted(EXAMPLES.glob("*.yaml"))
DOCUMENTS = sorted(path for path in (EXAMPLES / "documents").iterdir() if path.name != "README.md")
MOST_BYTES = 8_000_000


def listed() -> dict[str, list[str]]:
    """The table of the documents' README: the other cells by the name in the first."""
    text = (EXAMPLES / "documents" / "README.md").read_text("utf-8")
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert lines[0] == ["file", "what", "source", "licence"]
    return {name: cells for name, *cells in lines[2:]}


def test_there_is_a_quickstart() -> None:
    assert EXAMPLES / "quickstart.yaml" in JOBS


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_an_example_loads_and_plans_and_every_document_of_it_can_be_read(job: Path, tmp_path: Path) -> None:
    said = unspool("plan", str(job), "--json", "-o", str(tmp_path / "out"))

    assert (said.code, said.err) == (0, "")
    assert said.data["documents"]
    assert {document["action"] for document in said.data["documents"]} == {"read"}
    assert {document["uri"] for document in said.data["documents"]} <= {f"documents/{path.name}" for path in DOCUMENTS}


def test_the_quickstart_reads_every_document_that_is_there(tmp_path: Path) -> None:
    planned = unspool("plan", str(EXAMPLES / "quickstart.yaml"), "--json", "-o", str(tmp_path / "out")).data

    assert [document["uri"] for document in planned["documents"]] == [f"documents/{path.name}" for path in DOCUMENTS]


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_an_example_runs_over_the_beginnings_of_its_documents(job: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for document in DOCUMENTS:
        beginning = document.read_text("utf-8")[:1500]
        copy = tmp_path / "examples" / "documents" / document.name
        copy.unlink()
        copy.write_text(beginning, "utf-8")

    said = unspool("run", str(tmp_path / "examples" / job.name), "-j", "0", "--no-progress", "--json")

    assert said.code == 0, said.err
    assert said.data["documents"] == len(DOCUMENTS)


def test_every_document_is_listed_with_its_source_and_licence() -> None:
    table = listed()

    assert sorted(table) == [path.name for path in DOCUMENTS]
    for name, cells in table.items():
        assert len(cells) == 3 and all(cells), f"{name} lacks what it is, its source or its licence"
        assert re.search(r"public domain|CC0|CC BY|IETF|Apache|MIT", cells[2]), name


def test_the_documents_are_small_enough_to_be_shipped() -> None:
    assert sum(path.stat().st_size for path in DOCUMENTS) <= MOST_BYTES
