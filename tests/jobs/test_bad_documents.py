"""A folder with everything that is wrong with documents: one job, one row in `failures` for each, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DocumentError
from pipeline.extraction import Stretch
from pipeline.formats import pdf as pdf_format
from tests.faults.bad_company import TABLES, bytes_of
from tests.jobs.bad_documents import CASES, OK, PASSWORD, PDFS, Case, in_the_wild
from tests.jobs.project import Project, Said, prose

pytestmark = pytest.mark.xdist_group("bad_documents")
GOOD = 3
STRICTER: Mapping[str, tuple[str, ...]] = {
    "d12c.pdf": ("parse_error",),
    "d15a.pdf": ("bomb",),
}
"""Reasons that pypdf has for refusing what pypdfium2 reads."""


class Folder:
    """All cases read by one job, and the good documents among them read alone by another."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder / "project")
        self.project.write_model()
        for number in range(GOOD):
            self.project.document(f"good-{number}.txt", prose(8, seed=number))
        self.alone = self._run("alone", [{"path": "docs/good-*"}])
        for case in CASES:
            if case.data or "#" not in case.file:  # neighbours lie in a file that is there already
                case.write(self.project.folder / "docs" / case.file.split("#")[0])
        special = {case.file.split("#")[0]: case.inputs for case in CASES if case.inputs}
        inputs = [{"path": f"docs/{file}", **options} for file, options in special.items()]
        self.together = self._run("together", [*inputs, {"path": "docs/*"}])

    def _run(self, out: str, inputs: list[dict[str, Any]]) -> Said:
        self.project.write_job(
            model={"source": "models/tiny.pth"},
            inputs=inputs,
            output={"path": out},
            on_error={"max_failed": 1.0, "page_timeout": 12},
            checkpoint={"every": {"tokens": 4096, "seconds": 3600}},
            run={"workers": 0, "window": 64, "lanes": 8},
        )
        with in_the_wild():
            return self.project.run()

    def table(self, name: str, out: str = "together") -> pa.Table:
        return pq.read_table(self.project.folder / out / "output" / name)

    def row(self, table: str, file: str) -> dict[str, Any] | None:
        found = [row for row in self.table(table).to_pylist() if row["source_uri"] == f"docs/{file}"]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    yield Folder(tmp_path_factory.mktemp("bad"))


def test_a_job_over_bad_documents_ends_with_three_and_says_no_traceback(folder: Folder) -> None:
    assert (folder.alone.code, folder.together.code) == (0, 3)
    assert "Traceback" not in folder.together.err and "error[" not in folder.together.err


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name} ({case.file})" for case in CASES])
def test_a_document_ends_as_it_must(folder: Folder, case: Case) -> None:
    document, failure = folder.row("documents", case.file), folder.row("failures", case.file)

    assert document is not None, "no row in documents"
    end = failure["error_type"] if failure else document["status"]
    assert end in case.end.split("|"), failure
    if failure is not None:
        assert (document["status"], document["coverage"]) == ("failed", 0.0)
        assert case.says in failure["message"] and "\n" not in failure["message"]
        return
    assert (document["status"], document["coverage"]) == (OK, 1.0)
    facts = {**document, "metadata": dict(document["metadata"] or ())}
    assert {key: facts[key] for key in case.facts} == case.facts
    sentences = folder.table("sentences")
    texts = sentences.filter(pc.equal(sentences["doc_id"], document["doc_id"]))["text"].to_pylist()
    assert case.text in " ".join(texts)


def test_a_password_is_kept_nowhere(folder: Folder) -> None:
    files = [path for path in (folder.project.folder / "together").rglob("*") if path.is_file()]

    assert PASSWORD not in folder.together.err + folder.together.out
    assert len(files) > 50
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("table", TABLES)
def test_good_documents_have_the_same_rows_to_the_byte_whatever_lies_beside_them(folder: Folder, table: str) -> None:
    alone, together = folder.table(table, "alone"), folder.table(table)
    among = together.filter(pc.is_in(together["doc_id"], pc.unique(alone["doc_id"])))

    assert alone.num_rows > 0
    assert bytes_of(among) == bytes_of(alone)


IN_PROCESS = [
    case for case in PDFS if case.data and not case.name.startswith(("D13", "D14")) and case.file.endswith(".pdf")
]


@pytest.mark.parametrize("case", IN_PROCESS, ids=[f"{case.name} ({case.file})" for case in IN_PROCESS])
def test_pypdf_alone_gives_the_same_end_or_a_stricter_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_format, "_engine", lambda: "pypdf")
    monkeypatch.setenv("UNSPOOL_TEST_PASSWORD", PASSWORD)
    data = case.data if isinstance(case.data, bytes) else case.data()
    options = {"password_env": str(pdf["password_env"])} if isinstance(pdf := case.inputs.get("pdf"), dict) else {}
    try:
        found = [one for one in pdf_format.extract(io.BytesIO(data), options) if isinstance(one, Stretch)]
        end = OK if found else "empty"
    except DocumentError as error:
        end = error.error_type
    except Exception:  # the sandbox makes this of whatever a parser raises
        end = "parse_error"

    assert end in {*case.end.split("|"), *STRICTER.get(case.file, ())}
