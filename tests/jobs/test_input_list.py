"""Lists of documents: what they say of each reaches the tables, and nothing in them leads out of their folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.errors import JobError
from jobs.input_list import read_input_list
from jobs.manifest import document_id
from tests.jobs.project import Project, prose, unspool


def listed(place: Path, name: str, data: str | bytes, **options: Any) -> list[tuple[str, str, dict[str, str]]]:
    (place / name).write_bytes(data.encode() if isinstance(data, str) else data)
    found = read_input_list(str(place / name), options.get("folder"), options.get("metadata", ()))
    return [(os.path.relpath(one.path, place), one.id, dict(one.metadata)) for one in found]


def test_lines_and_tables_say_the_same(tmp_path: Path) -> None:
    rows = [{"path": "a.txt", "id": "7", "by": "Ämy"}, {"path": "sub/b.txt", "id": "8", "by": "x, y"}]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    expected = [("a.txt", "7", {"by": "Ämy"}), ("sub/b.txt", "8", {"by": "x, y"})]

    assert listed(tmp_path, "l.jsonl", "\ufeff" + lines + "\n") == expected
    assert listed(tmp_path, "l.csv", 'path,id,by\r\na.txt,7,Ämy\r\n\r\nsub/b.txt,8,"x, y"\r\n') == expected
    assert listed(tmp_path, "l.tsv", "\ufeffpath\tid\tby\na.txt\t7\tÄmy\nsub/b.txt\t8\tx, y\n") == expected


def test_metadata_is_all_there_is_or_what_is_asked_for(tmp_path: Path) -> None:
    data = '{"path": "a.txt", "id": 7, "by": "me", "n": 3, "none": null, "metadata": {"year": 1999, "tags": ["a"]}}'

    assert listed(tmp_path, "l.jsonl", data) == [
        ("a.txt", "7", {"by": "me", "n": "3", "year": "1999", "tags": '["a"]'})
    ]
    assert listed(tmp_path, "l.jsonl", data, metadata=["year", "x"]) == [("a.txt", "7", {"year": "1999"})]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"file": "a"}', "no `path`"),
        ('{"path": ""}', "no `path`"),
        ('{"path": 3}', "no `path`"),
        ('{"path": "a.txt"}', "the path"),
        ('{"path": "./sub/../a.txt"}', "the path"),
        ('{"path": "b.txt", "id": "one"}', "the id 'one' stands in line 1 too"),
        ('{"path": "b.txt", "id": [1]}', "neither text nor a number"),
        ('{"path": "../b.txt"}', "leads out of"),
        ('{"path": "/etc/passwd"}', "leads out of"),
        ('{"path": "link/passwd"}', "leads out of"),
        ('{"path": "."}', "leads out of"),
        (r'{"path": "a\u0000.txt"}', "no file name has"),
        (r'{"path": "a\ud800.txt"}', "no file name has"),
        ('{"path": "http://169.254.169.254/latest"}', "is an address"),
        ('{"path": "file:///etc/passwd"}', "is an address"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(JobError) as caught:
        listed(tmp_path, "l.jsonl", '{"path": "a.txt", "id": "one"}\n' + line)

    assert (caught.value.exit_code, caught.value.where) == (2, f"{tmp_path}/l.jsonl:2")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("name", "data", "code", "where"),
    [
        ("l.txt", "a.txt", "INPUT-LIST", "l.txt"),
        ("l.jsonl", b'{"path": "a"}\n\xff', "INPUT-LIST", "l.jsonl:2"),
        ("l.jsonl", "", "INPUT-EMPTY", "l.jsonl"),
        ("l.csv", "path,id\n", "INPUT-EMPTY", "l.csv"),
        ("l.csv", "path,id\na.txt\n", "INPUT-LIST", "l.csv:2"),
        ("l.csv", "file\na.txt\n", "INPUT-LIST", "l.csv:2"),
        ("l.csv", 'path\n"a.txt', "INPUT-LIST", "l.csv:2"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, name: str, data: str | bytes, code: str, where: str) -> None:
    with pytest.raises(JobError) as caught:
        listed(tmp_path, name, data)

    assert (caught.value.code, caught.value.where) == (code, f"{tmp_path}/{where}")


def test_a_folder_that_is_named_widens_what_a_list_may_name(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()

    assert listed(tmp_path / "lists", "l.jsonl", '{"path": "a.txt"}', folder=str(tmp_path)) == [("../a.txt", "", {})]
    assert listed(tmp_path / "lists", "l.jsonl", '{"path": "/etc/x"}', folder="/")[0][1:] == ("", {})


def test_what_a_list_says_stands_in_the_tables_and_a_file_that_is_gone_fails_alone(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    project.document("b.jsonl", json.dumps({"text": prose(3, seed=1)}))
    rows = [
        {"path": "docs/a.txt", "id": "first", "by": "me"},
        {"path": "docs/b.jsonl", "by": "you"},
        {"path": "gone.txt", "id": "case-3", "by": "her"},
        {"path": "~"},
    ]
    (project.folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    project.write_job(inputs=[{"manifest": "list.jsonl"}])

    assert project.run().code == 3

    documents = pq.read_table(project.out / "output" / "documents").to_pylist()
    assert [(row["source_uri"], row["status"], dict(row["metadata"])) for row in documents] == [
        ("docs/a.txt", "ok", {"by": "me", "id": "first"}),
        ("docs/b.jsonl#1", "ok", {"by": "you"}),
        ("gone.txt", "failed", {"by": "her", "id": "case-3"}),
        ("~", "failed", {}),
    ]
    assert documents[0]["doc_id"] == document_id("first", "given")
    shown = unspool("show", str(project.out), "case-3", "--json").data["document"]
    assert (shown["source_uri"], shown["metadata"]) == ("gone.txt", {"by": "her", "id": "case-3"})
    assert unspool("show", str(project.out), "1", "--json").data["document"]["source_uri"] == "docs/b.jsonl#1"
    (project.folder / "gone.txt").write_text(prose(2, seed=7), "utf-8")
    assert unspool("retry", str(project.out), "--doc", "case-3", "--no-progress").code == 3  # `~` still fails
    assert unspool("show", str(project.out), "gone.txt", "--json").data["document"]["status"] == "ok"
    assert unspool("verify", str(project.out)).code == 0


def test_a_record_that_is_cut_fails_alone_though_its_line_is_the_id_of_another(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    lines = [json.dumps({"id": n, "body": prose(2, seed=n)}) for n in range(4)]
    project.document("a.jsonl", "\n".join([lines[0], lines[1][:20], *lines[2:]]))
    project.write_job(inputs=[{"path": "docs/a.jsonl", "text_key": "body", "id_key": "id"}])

    assert project.run().code == 3

    documents = pq.read_table(project.out / "output" / "documents").to_pylist()
    assert [(row["source_uri"].partition("#")[2], row["status"]) for row in documents] == [
        ("0", "ok"),
        ("line 2", "failed"),
        ("2", "ok"),
        ("3", "ok"),
    ]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "give either `path` or `manifest`"),
        ({"path": "a", "manifest": "b"}, "give either `path` or `manifest`"),
        ({"manifest": "b", "exclude": ["*.md"]}, "leave `exclude` out"),
        ({"path": "a", "folder": "b"}, "`folder` belongs to a `manifest`"),
    ],
)
def test_an_input_is_a_pattern_or_a_list(tmp_path: Path, entry: dict[str, Any], says: str) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    project.write_job(inputs=[entry])
    said = project.run()

    assert (said.code, says in said.err) == (2, True), said.err
