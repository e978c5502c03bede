"""A finished run can be asked for more: failed documents again, new files, changed files; the rest stays as it is."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.jobs.project import Project, prose, unspool

ALL = [{"path": "docs/*"}]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", first=prose(6, 1), second=prose(6, 2), empty="")
    project.write_job(model={"source": str(project.write_model())}, inputs=ALL)
    assert project.run().code == 3
    return project


def again(project: Project, *arguments: str) -> Any:
    command, *options = arguments
    return unspool(command, str(project.out), *options, "--no-progress")


def documents(project: Project) -> dict[str, dict[str, Any]]:
    """The rows of `documents` by file name."""
    rows = pq.read_table(project.out / "output" / "documents").to_pylist()
    return {row["source_uri"].removeprefix("docs/"): row for row in rows}


def fresh(project: Project) -> dict[str, dict[str, Any]]:
    """What a new run over the files as they are now says of them."""
    out = project.folder / "fresh"
    project.run("-o", str(out))
    rows = pq.read_table(out / "output" / "documents").to_pylist()
    return {row["source_uri"].removeprefix("docs/"): row for row in rows}


def test_retrying_the_failed_reads_what_was_mended_and_nothing_else(project: Project) -> None:
    project.document("empty.txt", prose(2, 3))

    said = again(project, "retry", "--failed")

    assert said.code == 0, said.err
    assert "1 document(s) are read again" in said.err
    assert documents(project) == fresh(project)
    assert unspool("verify", str(project.out)).code == 0


def test_retrying_what_is_still_broken_fails_again_and_loses_nothing(project: Project) -> None:
    before = documents(project)

    assert again(project, "retry", "--failed").code == 3

    assert documents(project) == before


def test_a_named_document_is_read_again_to_the_same_rows(project: Project) -> None:
    before = project.output()

    assert again(project, "retry", "--doc", "docs/first.txt").code == 3

    assert project.output() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "say which documents"),
        (("retry", "--failed", "--doc", "docs/first.txt"), "not both"),
        (("retry", "--doc", "docs/third.txt"), "no document of this run"),
    ],
)
def test_a_retry_of_nothing_known_is_refused_in_one_line(
    project: Project, arguments: tuple[str, ...], words: str
) -> None:
    said = again(project, *arguments)

    assert (said.code, said.err.count("\n")) == (2, 1 + ("resuming" in said.err))
    assert words in said.err


def test_refreshed_inputs_add_new_files_and_read_changed_ones_again(project: Project) -> None:
    project.document("aaa.txt", prose(3, 4))
    project.document("second.txt", prose(7, 5))

    said = again(project, "resume", "--refresh-inputs")

    assert said.code == 3, said.err
    assert "1 new file(s) are read too, the first is docs/aaa.txt" in said.err
    assert "1 file(s) have changed and are read again, the first is docs/second.txt" in said.err
    assert documents(project) == fresh(project)
    assert list(documents(project))[-1] == "aaa.txt", "new documents stand behind those that were there"
    assert unspool("verify", str(project.out)).code == 0


def test_refreshing_twice_does_nothing_the_second_time(project: Project) -> None:
    project.document("third.txt", prose(3, 4))
    assert again(project, "resume", "--refresh-inputs").code == 3
    before = project.output()

    said = again(project, "resume", "--refresh-inputs")

    assert "the inputs are as they were" in said.err
    assert project.output() == before


def test_a_file_that_is_gone_keeps_its_rows_when_the_inputs_are_refreshed(project: Project) -> None:
    before = documents(project)
    (project.folder / "docs" / "first.txt").unlink()

    said = again(project, "resume", "--refresh-inputs")

    assert "1 file(s) are gone" in said.err
    assert documents(project) == before


def test_a_damaged_later_manifest_is_named(project: Project) -> None:
    project.document("third.txt", prose(3, 4))
    assert again(project, "resume", "--refresh-inputs").code == 3
    later = project.out / "inputs" / "manifest-000002.jsonl"
    later.write_bytes(later.read_bytes().replace(b"third", b"thirt"))

    said = again(project, "resume")

    assert said.code == 6
    assert "manifest-000002.jsonl" in said.err and "RUN-MANIFEST-DAMAGED" in said.err


def test_a_job_that_changes_only_how_it_runs_is_noted_once_in_the_ledger_and_goes_on(project: Project) -> None:
    before = project.output()
    job = project.job.read_text("utf-8")
    project.job.write_text(job.replace('"tasks"', '"on_error": {"retries": 1},\n "tasks"', 1), "utf-8")

    first, second = project.run(), project.run()

    notes = [path for path in (project.out / "ledger").glob("*.json") if b'"spec_note"' in path.read_bytes()]
    assert (first.code, second.code, len(notes)) == (3, 3, 1)
    assert "note: on_error.retries: 2 → 1" in first.err and "note: on_error" not in second.err
    assert project.output() == before


def test_documents_that_lie_within_a_file_have_changed_only_when_the_file_has(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", plain=prose(2, 1))
    docs = project.folder / "docs"
    (docs / "notes.jsonl").write_text('{"text": "Rain falls."}\n{"text": "Lamps burn late."}\n', "utf-8")
    with zipfile.ZipFile(docs / "both.zip", "w") as made:
        made.writestr("one.txt", "The river rises.")
    project.write_job(model={"source": str(project.write_model())}, inputs=ALL)

    first = project.run()
    assert (first.code, "have changed" in first.err) == (0, False), first.err
    assert again(project, "resume").code == 0

    os.utime(docs / "notes.jsonl", ns=(1, 1))
    os.utime(docs / "both.zip", ns=(1, 1))
    touched = again(project, "resume")
    assert (touched.code, "since they were read" in touched.err) == (0, False), touched.err

    (docs / "notes.jsonl").write_text('{"text": "Rain falls."}\n{"text": "Lamps burn soon."}\n', "utf-8")
    edited = again(project, "resume")
    assert (edited.code, "1 input(s) have changed since they were read" in edited.err) == (3, True), edited.err


def test_a_job_that_names_more_than_it_did_reads_it_when_the_inputs_are_refreshed(project: Project) -> None:
    project.write_job(**json.loads(project.job.read_text("utf-8")) | {"output": {"path": "few"}, "limit": 1})
    assert project.run().code == 3  # the first is the empty one
    project.write_job(**json.loads(project.job.read_text("utf-8")) | {"limit": None})

    left = project.run()
    read = project.run("--refresh-inputs")

    assert "2 new file(s) match the inputs; `--refresh-inputs` reads them too" in left.err
    assert "2 new file(s) are read too" in read.err
    rows = pq.read_table(project.folder / "few" / "output" / "documents").to_pylist()
    assert {row["source_uri"] for row in rows} == {"docs/empty.txt", "docs/first.txt", "docs/second.txt"}


def test_documents_that_are_to_be_read_in_another_way_are_read_again_when_the_inputs_are_refreshed(
    project: Project,
) -> None:
    project.document("second.txt", "Übergabe am Montag. ".encode("cp1252") * 9)
    assert again(project, "resume", "--refresh-inputs").code == 3
    project.write_job(
        **json.loads(project.job.read_text("utf-8")) | {"inputs": [{"path": "docs/*", "encoding": "cp1251"}]}
    )

    said = project.run("--refresh-inputs")

    assert "file(s) have changed and are read again" in said.err
    assert documents(project) == fresh(project)


def test_a_retry_that_is_refused_leaves_the_run_finished(project: Project) -> None:
    (project.folder / "docs" / "gone.txt").symlink_to("nowhere")
    assert again(project, "resume", "--refresh-inputs").code == 3

    assert again(project, "retry", "--doc", "docs/third.txt").code == 2

    assert unspool("export", str(project.out), "--to", "csv", "-o", str(project.folder / "rows")).code == 0


def test_what_verify_finds_in_a_finished_run_is_made_again_by_resuming_it(project: Project) -> None:
    for part in (project.out / "parts" / "failures").rglob("*.parquet"):
        part.unlink()
    assert unspool("verify", str(project.out)).code == 6

    assert again(project, "resume").code == 3

    assert unspool("verify", str(project.out)).code == 0


def test_a_run_over_a_pattern_that_reaches_into_it_does_not_read_what_it_wrote(project: Project) -> None:
    project.document("notes.md", prose(3, 7))
    project.write_job(
        **json.loads(project.job.read_text("utf-8"))
        | {"inputs": [{"path": "**/*.md"}], "output": {"path": "docs/out/first"}}
    )
    assert project.run().code == 0  # it writes docs/out/first/output/README.md
    project.document("more.md", prose(3, 8))

    said = project.run("--refresh-inputs")
    other = project.run("-o", str(project.folder / "docs" / "out" / "second"))

    assert (said.code, other.code) == (0, 0), said.err + other.err
    for run in ("first", "second"):
        rows = pq.read_table(project.folder / "docs" / "out" / run / "output" / "documents").to_pylist()
        assert {row["source_uri"] for row in rows} == {"docs/more.md", "docs/notes.md"}


def test_a_run_that_is_started_over_stays_where_its_link_leads(project: Project) -> None:
    disk = project.folder / "larger"
    disk.mkdir()
    linked = project.folder / "linked"
    linked.symlink_to(disk)

    first = project.run("-o", str(linked))
    second = project.run("-o", str(linked), "--set", "output.mode=overwrite")

    assert (first.code, second.code) == (3, 3), second.err
    assert linked.is_symlink() and (disk / "run.json").exists()
