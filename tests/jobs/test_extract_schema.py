"""Schemas of `extract` tasks: where they stand, what is wrong with them, and what a run makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.errors import JobError
from jobs.ledger import RunLedger
from jobs.run_directory import RunDirectory
from jobs.spec import load_resolved, load_spec
from jobs.verify import verify
from pipeline import tables
from pipeline.durable import Disk
from pipeline.fields import shipped
from pipeline.fields.field import Field
from tests.jobs.project import Project

JOB = """\
version: 1
name: terms
inputs: [{path: "*.txt"}]
tasks:
  - {name: terms, type: extract, schema: fields.yaml}
output: {path: out}
"""


def job(folder: Path, schema: str) -> Path:
    (folder / "fields.yaml").write_text(schema, "utf-8")
    path = folder / "job.yaml"
    path.write_text(JOB, "utf-8")
    return path


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("fields:\n  - {name: a, typ: date}\n", "fields.yaml:2:15: tasks[0].schema.fields[0].typ is no option"),
        ("fields:\n  - {name: a, type: dates}\n", "fields.yaml:2:21: tasks[0].schema.fields[0].type"),
        ("fields:\n  - {name: a, type: date}\n  - {name: a, type: date}\n", "fields.yaml:3:12"),
        ("fields:\n  - {name: a, patterns: ['(']}\n", "is no regular expression"),
        ("fields:\n  - {name: a, patterns: ['x*']}\n", "also matches nothing"),
        ("fields:\n  - {name: a}\n", "needs keys, patterns or values"),
        ("fields:\n  - {name: a, type: date, minimum: 5}\n", "a date as text"),
        ("fields:\n  - {name: a, type: email, minimum: 5}\n", "has no order"),
        ("fields: []\n", "from 1 to 256 fields"),
    ],
)
def test_a_wrong_schema_is_refused_with_its_place(tmp_path: Path, schema: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        load_spec(job(tmp_path, schema))

    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_schema_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    path = job(tmp_path, "fields: []\n")
    (tmp_path / "fields.yaml").unlink()

    with pytest.raises(JobError, match=r"fields\.yaml"):
        load_spec(path)


def test_what_a_schema_file_says_is_part_of_the_job_wherever_it_lies(tmp_path: Path) -> None:
    first = load_spec(job(tmp_path, "fields:\n  - {name: a, type: date}\n"))
    other = load_spec(job(tmp_path, "fields:\n  - {name: a, type: money}\n"))

    assert first.fingerprint("m") != other.fingerprint("m")
    (tmp_path / "fields.yaml").unlink()
    assert load_resolved(first.resolved(), "run.json").fingerprint("m") == first.fingerprint("m")


def test_a_json_schema_may_stand_in_place_of_fields(tmp_path: Path) -> None:
    spec = load_spec(job(tmp_path, '{"type": "object", "properties": {"due": {"type": "string", "format": "date"}}}'))

    assert [field["name"] for field in spec.model_dump(mode="json")["tasks"][0]["schema"]["fields"]] == ["due"]


def test_a_schema_that_is_shipped_is_known_by_its_name(tmp_path: Path) -> None:
    path = job(tmp_path, "fields: []")

    assert shipped.names() == ["clauses", "contract", "invoice"]
    for name in shipped.names():
        path.write_text(JOB.replace("fields.yaml", name), "utf-8")
        [task] = load_spec(path).model_dump(mode="json")["tasks"]
        assert tuple(map(Field.of, task["schema"]["fields"])) == shipped.fields_of(name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    text = "This Lease is dated as of March 3, 2020. The rent is $500 a month. Mail to a@b.org.\n\n" * 20
    project = Project(tmp_path_factory.mktemp("extract") / "project", a=text)
    schema = {
        "fields": [
            {"name": "made", "type": "date", "cues": ["dated as of"]},
            {"name": "rent", "type": "money"},
            {"name": "about", "type": "clause", "description": "what is paid each month"},
        ]
    }
    project.write_job(
        tasks=[{"name": "vectors", "type": "embed"}, {"name": "terms", "type": "extract", "schema": schema}]
    )
    assert project.run().code == 0
    return project


def test_a_run_writes_the_table_of_the_contract(finished: Project) -> None:
    table = pq.read_table(finished.out / "output" / "extractions")
    text = (finished.folder / "docs" / "a.txt").read_text("utf-8")

    assert table.schema.remove_metadata().equals(tables.EXTRACTIONS)
    found = {row["field"]: row for row in table.to_pylist()}
    assert {name: row["normalized"] for name, row in found.items() if name != "about"} == {
        "made": "2020-03-03",
        "rent": "USD 500",
    }
    for row in found.values():
        assert text[row["char_start"] : row["char_end"]] == row["quote"]


def test_the_document_is_read_once_whatever_the_number_of_tasks(finished: Project) -> None:
    view = RunLedger.read(RunDirectory.open(finished.out, Disk()).ledger)
    [row] = pq.read_table(finished.out / "output" / "documents").to_pylist()

    assert row["tokens_read"] == row["tokens"] == sum(document.tokens for document in view.done.values())


def test_a_quote_that_does_not_stand_at_its_span_is_found(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import jobs.verify as module

    honest = module._column_rows
    run = RunDirectory.open(finished.out, Disk())
    assert verify(run) == []

    def wrong(run: object, document: object, table: str, columns: object) -> list[tuple[object, ...]]:
        rows = honest(run, document, table, columns)  # type: ignore[arg-type]
        return [(row[0], row[1][::-1], *row[2:]) for row in rows] if table == "extractions" else rows

    monkeypatch.setattr(module, "_column_rows", wrong)
    assert any("does not stand at its span" in line for line in verify(run))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{properties: [total, date]}", "a mapping under 'properties'"),
        ("{properties: {total: {type: string, x-unspool: }}}", "a mapping under 'x-unspool'"),
        ("{$defs: [a], properties: {total: {type: string}}}", "a mapping under '$defs'"),
        ("{$defs: {a: {$ref: '#/$defs/a'}}, properties: {total: {$ref: '#/$defs/a'}}}", "lead nowhere"),
        ("{properties: {item: {properties: [total]}}}", "a mapping under 'properties'"),
    ],
)
def test_a_json_schema_that_is_none_is_refused_in_one_line(tmp_path: Path, schema: str, message: str) -> None:
    with pytest.raises(JobError, match=re.escape(message)) as caught:
        load_spec(job(tmp_path, schema))
    assert str(caught.value).count("\n") == 0
