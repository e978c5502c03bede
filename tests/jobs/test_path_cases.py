"""Paths of every kind that a file system has, through the real command: each ends with its reason and exit code."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from pipeline import files
from tests.jobs.project import Project, Said, prose, unspool

READABLE = prose(3)


@dataclass(frozen=True)
class Case:
    """A file that is made in `docs/`, and what must come of it: its status, or the reason in `failures`."""

    name: str
    make: Callable[[Path], Any]
    reason: str = "ok"
    uri: str = ""


def write(path: Path) -> None:
    path.write_text(READABLE, "utf-8")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def other(path: Path) -> None:
    path.write_text("Another one.", "utf-8")


CASES = [
    Case("plain.txt", write),
    Case("PLAIN.txt", write),
    Case("-n.txt", write),
    Case("with space, #1 and 'quotes\".txt", write),
    Case("new\nline.txt", write),
    Case("\x1b[2Jescape\u202e.txt", write),
    Case("é" * 125 + ".txt", write),
    Case("~", write, "unsupported_type"),
    Case("${HOME}.txt", write),
    Case("a[1].txt", write),
    Case(os.fsdecode(b"caf\xe9.txt"), write, uri="docs/caf\\xe9.txt"),
    Case("café.txt", write),
    Case("cafe\u0301.txt", write),
    Case("link.txt", link_to("plain.txt")),
    Case("dangling.txt", link_to("nothing.txt"), "missing"),
    Case("loop.txt", link_to("loop.txt"), "io_error"),
    Case("round.txt", link_to("about.txt"), "io_error"),
    Case("about.txt", link_to("round.txt"), "io_error"),
    Case("zero.txt", link_to("/dev/zero"), "special_file"),
    Case("memory.txt", link_to("/proc/self/mem"), "io_error|empty"),
    Case("fifo.txt", fifo, "special_file"),
    Case("socket.txt", bound_socket, "special_file|io_error"),
    Case("vanishes.txt", write, "missing"),
    Case("becomes-a-folder.txt", write, "special_file"),
    Case("grows.txt", write, "changed_during_read"),
]
NAMED = [case.name for case in CASES if case.make in (fifo, bound_socket) or case.name == "zero.txt"]


@contextmanager
def in_motion(folder: Path) -> Iterator[None]:
    """Files that change between the listing and the reading, or while they are read."""
    inspect = files.opened

    @contextmanager
    def opened(path: str) -> Iterator[int]:
        if path.endswith("vanishes.txt"):
            Path(path).unlink(missing_ok=True)
        if path.endswith("becomes-a-folder.txt") and not os.path.isdir(path):
            Path(path).unlink()
            Path(path).mkdir()
        with inspect(path) as descriptor:
            if path.endswith("grows.txt"):
                original = os.pread

                def pread(of: int, count: int, offset: int) -> bytes:
                    if of == descriptor:
                        assert offset < 1 << 16, "the reading runs after the growing file"
                        with open(path, "a", encoding="utf-8") as file:
                            file.write("More.")
                    return original(of, count, offset)

                with mock.patch("os.pread", pread):
                    yield descriptor
            else:
                yield descriptor

    with mock.patch.object(files, "opened", opened):
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, dict[str, str]]:
    """One run over all of them: what the command said, and for each document how it ended."""
    project = Project(tmp_path_factory.mktemp("paths") / "project")
    docs = project.folder / "docs"
    for case in CASES:
        case.make(docs / case.name)
    (docs / "folder.txt").mkdir()
    other(docs / "folder.txt" / "inside.md")
    (docs / "linked").symlink_to("folder.txt")
    patterns = [{"path": "docs/*"}, {"path": "docs/**/*.txt"}, *({"path": f"docs/{name}"} for name in NAMED)]
    project.write_job(inputs=patterns, on_error={"max_failed": 1.0})
    with ExitStack() as stack:
        stack.enter_context(in_motion(docs))
        said = project.run()
    rows = pq.read_table(project.out / "output" / "documents").to_pylist()
    reasons = {
        row["source_uri"]: row["error_type"] for row in pq.read_table(project.out / "output" / "failures").to_pylist()
    }
    assert unspool("verify", str(project.out)).code == 0
    return said, {row["source_uri"]: reasons.get(row["source_uri"], row["status"]) for row in rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.name[:40]))
def test_every_path_is_read_or_has_its_reason(result: tuple[Said, dict[str, str]], case: Case) -> None:
    found = result[1]

    assert found[case.uri or f"docs/{case.name}"] in case.reason.split("|")


def test_each_file_is_one_document_and_folders_are_none(result: tuple[Said, dict[str, str]]) -> None:
    said, found = result

    assert len(found) == len(CASES)
    assert (said.code, "Traceback" in said.err, "\x1b" in said.err) == (3, False, False)


REFUSED = [
    ("a file that is missing", {"path": "docs/none.txt"}, "INPUT-MISSING"),
    ("a home folder", {"path": "~/x.txt"}, "INPUT-MISSING"),
    ("a pattern that matches nothing", {"path": "docs/*.rst"}, "INPUT-EMPTY"),
    ("a folder", {"path": "docs"}, "INPUT-FOLDER"),
    ("a folder named as a file", {"path": "docs/folder.txt"}, "INPUT-FOLDER"),
    ("a name of 300 bytes", {"path": f"docs/{'x' * 300}.txt"}, "INPUT-MISSING"),
    ("a path of 5,000 bytes", {"path": "d/" * 2500 + "x.txt"}, "INPUT-MISSING"),
    ("a name with a NUL", {"path": "docs/a\0.txt"}, "YAML-ENCODING"),
    ("a variable that is not set", {"path": "${UNSPOOL_NO_SUCH}/x.txt"}, "SPEC-VARIABLE"),
    ("an address", {"path": "https://example.org/a.txt"}, "SPEC-BAD-VALUE"),
    ("the output itself", {"path": "out/**/*.json"}, "INPUT-EMPTY"),
    ("a list that is missing", {"manifest": "none.jsonl"}, "INPUT-MISSING"),
    ("a list that is a folder", {"manifest": "docs/folder.jsonl"}, "INPUT-MISSING"),
    ("a list that leads elsewhere", {"manifest": "docs/away.csv"}, "INPUT-LIST"),
    ("an empty folder", {"path": "docs/folder.txt/**/*"}, "INPUT-EMPTY"),
]


@pytest.mark.parametrize(("entry", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_inputs_that_name_nothing_stop_the_job_before_it_starts(
    tmp_path: Path, entry: dict[str, str], code: str
) -> None:
    project = Project(tmp_path / "project", a=READABLE)
    for name in ("folder.txt", "folder.jsonl"):
        (project.folder / "docs" / name).mkdir()
    project.document("away.csv", "path\n../job.yaml\n")
    project.write_job(inputs=[entry])

    said = project.run()

    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert said.err.startswith(f"error[{code}] ")
    assert not project.out.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_row_and_a_folder_that_may_not_be_listed_stops_the_job(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=READABLE, b=READABLE)
    (project.folder / "docs" / "b.txt").chmod(0)
    assert project.run().code == 3
    assert pq.read_table(project.out / "output" / "failures").column("error_type").to_pylist() == ["permission"]

    (project.folder / "docs" / "locked").mkdir(mode=0)
    project.write_job(inputs=[{"path": "docs/**/*"}], output={"path": "other"})
    assert (project.run().code, project.run().err[:23]) == (2, "error[INPUT-UNREADABLE]")
