"""Standard input as a document of a job: read once, kept in the run, gone on with when it is gone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from jobs.errors import JobError
from jobs.standard_input import keep, kept, suffix_of
from pipeline.durable import Disk
from pipeline.formats import reader_for
from tests.jobs.project import Project, Said, contents, prose, unspool
from tests.pipeline.samples import docx, epub, pdf, word_paragraph

TEXT = prose(40).encode()
STOPPED = "checkpoint.after_write=raise:EIO@3"


class Terminal(io.TextIOWrapper):
    """Somebody who might type something."""

    def isatty(self) -> bool:
        return True


def on_stdin(data: bytes, *arguments: str, faults: str = "") -> Said:
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(data))):
        return unspool(*arguments, "--no-progress", faults=faults)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.write_job(inputs=[{"path": "-"}])
    return project


def rows(project: Project, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(project.out / "output" / table).to_pylist()
    return found


def test_what_is_on_standard_input_is_read_as_the_same_bytes_in_a_file_are(project: Project) -> None:
    assert on_stdin(TEXT, "run", str(project.job)).code == 0
    piped = rows(project, "sentences")
    project.document("a.txt", TEXT)
    project.write_job(output={"path": "other"})
    assert project.run().code == 0
    read = pq.read_table(project.folder / "other" / "output" / "sentences").to_pylist()

    def content(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key not in ("id", "doc_id")} for row in found]

    assert content(piped) == content(read) != []
    assert [row["source_uri"] for row in rows(project, "documents")] == ["-"]


def test_a_run_that_was_stopped_goes_on_though_standard_input_is_gone(project: Project, tmp_path: Path) -> None:
    undisturbed = Project(tmp_path / "undisturbed")
    undisturbed.write_job(inputs=[{"path": "-"}])
    assert on_stdin(TEXT, "run", str(undisturbed.job)).code == 0

    assert on_stdin(TEXT, "run", str(project.job), faults=STOPPED).code == 6
    again = on_stdin(b"", "run", str(project.job))

    assert again.code == 0
    assert "standard input was read when the run began" in again.err
    assert contents(project.out / "output") == contents(undisturbed.out / "output")
    assert on_stdin(b"", "resume", str(project.out)).code == 0


@pytest.mark.parametrize("stdin", [Terminal(io.BytesIO(b"typed")), None])
def test_without_anybody_who_sends_it_nothing_is_made_and_it_is_said_what_to_do(project: Project, stdin: Any) -> None:
    with mock.patch("sys.stdin", stdin):
        said = unspool("run", str(project.job))

    assert said.code == 2
    assert "error[INPUT-STDIN] -: standard input is a terminal or closed; send the document" in said.err
    assert not project.out.exists()


def test_a_run_that_was_killed_while_it_listened_says_what_to_do_and_begins_anew(project: Project) -> None:
    def killed(*_: object) -> bytes:
        raise KeyboardInterrupt

    with mock.patch("jobs.standard_input._next", killed):
        assert on_stdin(TEXT, "run", str(project.job)).code == 130
    assert (project.out / "run.json").exists() and kept(project.out / "text") is None

    said = on_stdin(b"", "resume", str(project.out))
    assert said.code == 2
    assert "nothing came on standard input; send the document, from its start" in said.err
    assert on_stdin(TEXT, "run", str(project.job)).code == 0
    assert {path.name for path in (project.out / "text").iterdir()} == {"stdin.txt"}


def test_what_was_kept_outlives_a_model_that_cannot_be_loaded(project: Project) -> None:
    with mock.patch("jobs.run.open_pool", side_effect=JobError("MODEL", "gone", exit_code=7)):
        assert on_stdin(TEXT, "run", str(project.job)).code == 7

    assert on_stdin(b"", "run", str(project.job)).code == 0
    assert rows(project, "documents")[0]["bytes"] == len(TEXT)


def test_a_plan_leaves_standard_input_alone(project: Project) -> None:
    stdin = mock.Mock(spec=io.TextIOWrapper, **{"buffer.read.side_effect": AssertionError("it was read")})
    with mock.patch("sys.stdin", stdin):
        said = unspool("plan", str(project.job), "--json")

    assert said.code == 0
    [planned] = said.data["documents"]
    assert (planned["uri"], planned["action"], planned["reason_code"]) == ("-", "read", "standard_input")


def test_what_is_too_large_is_refused_while_it_comes(project: Project) -> None:
    project.write_job(inputs=[{"path": "-", "max_bytes": "1KiB"}])

    said = on_stdin(TEXT, "run", str(project.job))

    assert said.code == 2
    assert "more than 1,024 bytes came; raise inputs[].max_bytes" in said.err
    assert list((project.out / "text").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "reader"),
    [
        (pdf([["Words."]]), "pdf"),
        (docx(word_paragraph("Words.")), "docx"),
        (epub(["<p>Words.</p>"]), "epub"),
        (b"PK\x03\x04" + b"\0" * 26 + b"a.txt", "zipped"),
        (b" \n<!DOCTYPE HTML><p>Words.", "html"),
        (b"\xef\xbb\xbf<html>", "html"),
        (b"{\\rtf1 Words.}", "rtf"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"Words: PK and %PDF-.", "text"),
        (b"\xff\xfeW\0", "text"),
    ],
)
def test_its_first_bytes_say_what_kind_of_file_it_is(head: bytes, reader: str) -> None:
    assert reader_for(f"stdin{suffix_of(head[:4096])}") == reader


def test_it_is_kept_a_piece_at_a_time(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        left = 9 << 20

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 1 << 20
            given = min(size, self.left)
            self.left -= given
            return b"a" * given

    with mock.patch("sys.stdin", mock.Mock(buffer=Endless(), closed=False, isatty=lambda: False)):
        path = keep(tmp_path / "text", Disk())

    assert path.stat().st_size == 9 << 20


def test_a_document_of_another_kind_may_be_summarized_from_standard_input() -> None:
    said = on_stdin(pdf([["Rain falls on the harbour."], ["Lamps burn late."]]), "summarize", "-", "-q")

    assert said.code == 0
    assert "Rain falls on the harbour." in said.out
