"""Runs that follow files: rows appear while they grow, and what comes of it is what one reading of the whole gives."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.dataset as ds
import pytest

from jobs.errors import ExitCode
from jobs.following import LIVE
from jobs.status import status_of
from tests.jobs.project import Project, Said, prose, unspool

TEXT = prose(230, 3)
FOLLOWED = {"path": "docs/*.log", "follow": True}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    write_job(project, FOLLOWED)
    return project


def write_job(project: Project, *inputs: dict[str, Any], **changes: Any) -> None:
    model = {"source": str(project.write_model())}
    project.write_job(**{"model": model, "inputs": list(inputs), "split": {"language": "en"}, **changes})


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with (
        mock.patch("jobs.supervise._CALL_SECONDS", 0.05),
        mock.patch("pipeline.growing._QUIET_SECONDS", 0.1),
        mock.patch("pipeline.worker.POLL_SECONDS", 0.02),
    ):
        yield


def log(project: Project, text: str, name: str = "app.log") -> None:
    with (project.folder / "docs" / name).open("a", encoding="utf-8") as file:
        file.write(text)


def live(project: Project) -> list[dict[str, Any]]:
    """The rows of `sentences` that a reader sees now, document by document."""
    files = [str(path) for path in (project.out / LIVE / "sentences").glob("*.parquet")]
    rows = ds.dataset(files).to_table(columns=["id", "text"]).to_pylist() if files else []
    return sorted(rows, key=lambda row: str(row["id"]))


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)


def follow(project: Project, script: Callable[[], None], *options: str) -> Said:
    """Run the job while `script` is carried out beside it, then stop it as Ctrl-C does."""
    problems: list[BaseException] = []

    def carry_out() -> None:
        try:
            script()
        except BaseException as problem:
            problems.append(problem)
        if not ended:
            os.kill(os.getpid(), signal.SIGINT)

    ended: list[Said] = []
    beside = threading.Thread(target=carry_out)
    beside.start()
    ended.append(project.run(*options))
    beside.join()
    assert not problems, (problems, ended)
    return ended[0]


def close(project: Project, *options: str) -> Said:
    return project.run("--set", "inputs.0.follow=false", *options)


def test_rows_appear_while_it_grows_and_its_tables_are_in_the_end_those_of_one_reading(project: Project) -> None:
    log(project, TEXT[:3000])
    project.document("other.txt", prose(20, 9))
    write_job(project, FOLLOWED, {"path": "docs/*.txt"})
    seen: list[int] = []

    def grow() -> None:
        wait(lambda: len(live(project)) > 0)
        for start in range(3000, 9000, 2000):
            seen.append(len(live(project)))
            log(project, TEXT[start : start + 2000])
            wait(lambda: len(live(project)) > seen[-1])
        now = status_of(project.out)
        assert (now.state, now.open[0].uri) == ("following", "docs/app.log")
        wait(lambda: status_of(project.out).done == 1)  # the document that has an end was read beside it

    said = follow(project, grow)
    assert (said.code, said.out) == (ExitCode.INTERRUPTED, ""), said.err
    rows = live(project)
    log(project, TEXT[9000:])
    again = follow(project, lambda: wait(lambda: len(live(project)) > len(rows)))
    assert again.code == ExitCode.INTERRUPTED
    assert live(project)[: len(rows)] == rows
    assert unspool("verify", str(project.out)).code == 0

    assert close(project).code == 0

    assert not (project.out / LIVE).exists()
    fresh = project.folder / "fresh"
    assert close(project, "-o", str(fresh)).code == 0
    assert {path.name for path in (fresh / "output").rglob("*.parquet")}
    for path in sorted((fresh / "output").rglob("*.parquet")):
        assert path.read_bytes() == (project.out / path.relative_to(fresh)).read_bytes(), path
    for path in sorted((fresh / "states").iterdir()):
        assert ".end." not in path.name or path.read_bytes() == (project.out / "states" / path.name).read_bytes()
    assert unspool("verify", str(project.out)).code == 0


def test_a_file_that_is_rotated_is_read_to_its_end_and_the_new_one_is_another_document(project: Project) -> None:
    log(project, TEXT[:4000])
    path = project.folder / "docs" / "app.log"

    def rotate() -> None:
        wait(lambda: len(live(project)) > 0)
        path.rename(path.with_name("app.log.1"))
        log(project, TEXT[4000:4500], "app.log.1")
        log(project, TEXT[4500:])
        wait(lambda: len({row["id"].split("#")[0] for row in live(project)}) == 2)

    said = follow(project, rotate)

    assert (said.code, "docs/app.log was replaced by another file (rotated)" in said.err) == (75, True), said.err
    assert close(project).code == 0
    rows = ds.dataset(project.out / "output" / "documents").to_table(columns=["source_uri", "bytes"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("docs/app.log", 4500), ("docs/app.log#2", len(TEXT) - 4500)]
    assert unspool("verify", str(project.out)).code == 0


def test_a_file_rotated_while_nothing_ran_keeps_the_rows_it_has_and_the_new_one_is_read_too(project: Project) -> None:
    log(project, TEXT[:4000])
    assert follow(project, lambda: wait(lambda: len(live(project)) > 0)).code == 75
    before = live(project)
    (project.folder / "docs" / "app.log").unlink()
    log(project, TEXT[4000:])

    said = close(project)

    assert (said.code, "no longer begins with what was read of it" in said.err) == (0, True), said.err
    rows = ds.dataset(project.out / "output" / "sentences").to_table(columns=["id", "text"]).to_pylist()
    assert rows[: len(before)] == before
    uris = ds.dataset(project.out / "output" / "documents").to_table(columns=["source_uri"]).to_pylist()
    assert [row["source_uri"] for row in uris] == ["docs/app.log", "docs/app.log#2"]


def test_a_file_rotated_to_a_name_beside_it_while_nothing_ran_is_read_to_its_end_there(project: Project) -> None:
    log(project, TEXT[:4000])
    assert follow(project, lambda: wait(lambda: len(live(project)) > 0)).code == 75
    log(project, TEXT[4000:5000])
    path = project.folder / "docs" / "app.log"
    path.rename(path.with_name("app.log.1"))
    (project.folder / "docs" / "app.log-old").write_text("x" * 9000, "utf-8")
    log(project, TEXT[5000:])

    said = close(project)

    assert (said.code, "docs/app.log was rotated to app.log.1; it was read to its end" in said.err) == (0, True), (
        said.err
    )
    rows = ds.dataset(project.out / "output" / "documents").to_table(columns=["source_uri", "bytes"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("docs/app.log", 5000), ("docs/app.log#2", len(TEXT) - 5000)]


@pytest.mark.parametrize("begun", ["followed", "followed without a boundary", "as files that end"])
def test_a_finished_run_follows_on_from_where_its_documents_stood(project: Project, begun: str) -> None:
    if begun == "followed without a boundary":
        write_job(project, FOLLOWED, tasks=[{"name": "vectors", "type": "embed"}])
    log(project, TEXT[:6000])
    if begun != "as files that end":
        assert follow(project, lambda: wait(lambda: len(live(project)) > 0)).code == 75
    assert close(project).code == 0
    rows = ds.dataset(project.out / "output" / "sentences").count_rows()
    log(project, TEXT[6000:])

    said = follow(project, lambda: wait(lambda: len(live(project)) > rows), "--json")

    assert (said.code, "read anew" in said.err) == (75, begun != "followed"), said.err
    assert (said.data["tokens_fed"] < 1600) == (begun == "followed")  # three windows of 512, of 3,008 tokens
    assert close(project).code == 0
    fresh = project.folder / "fresh"
    assert close(project, "-o", str(fresh)).code == 0
    for path in sorted((fresh / "output").rglob("*.parquet")):
        assert path.read_bytes() == (project.out / path.relative_to(fresh)).read_bytes(), path
    assert unspool("verify", str(project.out)).code == 0


def test_a_file_read_to_its_end_by_a_run_that_was_then_stopped_follows_on_and_is_not_read_as_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(project, TEXT[:4000])
    assert follow(project, lambda: wait(lambda: len(live(project)) > 0)).code == 75
    with monkeypatch.context() as patched:
        patched.setattr("jobs.run.finalize", None)  # it fails when the document is done and the tables are not
        assert close(project).code == ExitCode.BUG
    rows = len(live(project))
    log(project, TEXT[4000:])

    assert follow(project, lambda: wait(lambda: len(live(project)) > rows)).code == 75

    assert {row["id"].split("#")[0] for row in live(project)} == {live(project)[0]["id"].split("#")[0]}
    assert close(project).code == 0
    assert ds.dataset(project.out / "output" / "documents").count_rows() == 1


def test_a_crash_between_a_checkpoint_and_its_record_shows_its_rows_when_the_run_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(project, TEXT[:4000])

    def crash(*arguments: Any) -> None:
        raise RuntimeError("power is lost")

    with monkeypatch.context() as patched:
        patched.setattr("jobs.supervise.Supervisor._commit_rows", crash)
        assert project.run().code == ExitCode.BUG
    assert live(project) == []

    assert follow(project, lambda: wait(lambda: len(live(project)) > 0)).code == 75


def test_following_what_does_not_grow_costs_hardly_any_processor_time_and_no_room(project: Project) -> None:
    log(project, TEXT[:4000])
    used: list[float] = []
    sizes: list[int] = []

    def idle() -> None:
        wait(lambda: len(live(project)) > 0)
        time.sleep(0.5)
        began, sizes[:] = time.process_time(), [(project.out / "events.jsonl").stat().st_size]
        time.sleep(1.0)
        used.append(time.process_time() - began)
        sizes.append((project.out / "events.jsonl").stat().st_size)

    with mock.patch("jobs.supervise._CALL_SECONDS", 1.0), mock.patch("pipeline.worker.POLL_SECONDS", 0.25):
        follow(project, idle)

    assert used[0] < 0.5
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"path": "docs/a.md", "follow": True}, 2, "only plain text can be followed"),
        ({"path": "s3://bucket/a.log", "follow": True}, 2, "only files on this machine"),
        ({"manifest": "list.jsonl", "follow": True}, 2, "only files on this machine"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_starts(
    project: Project, change: dict[str, Any], code: int, message: str
) -> None:
    project.document("a.md", "text")
    project.write_job(inputs=[change])

    said = project.run()

    assert (said.code, message in said.err) == (code, True), said.err


def test_a_file_without_a_suffix_can_be_followed_and_the_plan_says_so(project: Project) -> None:
    project.document("syslog", TEXT)
    project.write_job(inputs=[{"path": "docs/syslog", "follow": True}])

    planned = json.loads(unspool("plan", str(project.job), "--json").out)["documents"][0]

    assert (planned["action"], planned["reason"]) == ("follow", "new, read as it grows")
