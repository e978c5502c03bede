"""Looking at a job and at a run: what is said is true, and nothing is changed by it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jobs.prepare import reference
from jobs.run_directory import RunDirectory
from pipeline.durable import Disk
from tests.jobs.bad_documents import encrypted
from tests.jobs.project import TASKS, Project, contents, events, prose, unspool
from tests.pipeline.samples import pdf

STOPPED = "checkpoint.after_write=raise:EIO@3"
"""The disk fails behind the third checkpoint: in the middle of the largest document."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", a=prose(40), b=prose(6, seed=1), empty="")


def plan(project: Project, *options: str) -> Any:
    said = unspool("plan", str(project.job), "--json", *options)
    assert (said.code, said.err) == (0, "")
    return said.data


def status(project: Project) -> Any:
    said = unspool("status", str(project.out), "--json")
    assert (said.code, said.err) == (0, "")
    return said.data


def actions(planned: Any) -> dict[str, str]:
    return {document["uri"]: document["action"] for document in planned["documents"]}


def test_the_plan_of_a_new_job_reads_what_is_text_and_says_what_will_fail(project: Project) -> None:
    planned = plan(project)

    assert planned["exists"] is False
    assert actions(planned) == {"docs/a.txt": "read", "docs/b.txt": "read", "docs/empty.txt": "fail"}
    assert [document["reason"] for document in planned["documents"]] == [
        "new, utf-8, language en",
        "new, utf-8, language en",
        "the file is empty",
    ]
    assert planned["bytes_left"] == len(prose(40)) + len(prose(6, seed=1))


def test_the_estimate_of_tokens_is_near_what_is_read(project: Project) -> None:
    planned = plan(project)

    assert project.run("--json").data["tokens"] == pytest.approx(planned["tokens_left_estimate"], rel=0.35)


def test_a_plan_writes_nothing(project: Project) -> None:
    before = contents(project.folder)

    plan(project)

    assert contents(project.folder) == before


def test_the_plan_of_a_stopped_run_goes_on_in_the_middle_of_the_document(project: Project) -> None:
    whole = plan(project)
    assert project.run(faults=STOPPED).code == 6

    planned = plan(project)

    assert actions(planned)["docs/a.txt"] == "resume"
    [document] = [document for document in planned["documents"] if document["uri"] == "docs/a.txt"]
    assert document["reason"] == "from token 384"
    assert planned["tokens_left_estimate"] == whole["tokens_left_estimate"] - 384


def test_the_plan_of_a_finished_run_skips_everything_and_says_why(project: Project) -> None:
    assert project.run().code == 3

    planned = plan(project)

    assert set(actions(planned).values()) == {"skip"}
    reasons = {document["uri"]: document["reason"] for document in planned["documents"]}
    assert reasons["docs/a.txt"].startswith("ok already") and reasons["docs/empty.txt"].startswith("failed already")
    assert (planned["bytes_left"], planned["tokens_left_estimate"]) == (0, 0)
    assert planned["tokens_per_second"] > 0


def test_the_plan_says_of_each_document_in_a_word_why_it_will_or_will_not_be_read(project: Project) -> None:
    project.document("locked.pdf", encrypted("p", "o", "RC4-128"))
    project.document("long.pdf", pdf([[f"Page {number}."] for number in range(700)]))
    project.document("large.txt", "Words. " * 100)
    large = {"path": "docs/large.txt", "max_bytes": 100}
    project.write_job(inputs=[large, {"path": "docs/*"}], on_error={"max_failed": 1.0})

    planned = plan(project)

    found = {document["uri"]: (document["action"], document["reason_code"]) for document in planned["documents"]}
    assert found["docs/a.txt"] == ("read", "new")
    assert found["docs/empty.txt"] == ("fail", "empty")
    assert found["docs/large.txt"] == ("fail", "too_large")
    assert planned["counts"]["read new"] == sum(one == ("read", "new") for one in found.values())
    pages = {document["uri"]: document["pages_estimate"] for document in planned["documents"]}
    assert (pages["docs/long.pdf"], pages["docs/locked.pdf"], pages["docs/a.txt"]) == (700, 1, None)
    assert "1 fail too_large" in unspool("plan", str(project.job)).out


def test_the_plan_of_a_failure_that_may_be_gone_reads_the_document_again(project: Project) -> None:
    gone = project.document("gone.txt", "Here for now.")
    project.write_job(on_error={"max_failed": 1.0})
    with mock.patch(
        "jobs.following.reference", lambda entry, root: replace(reference(entry, root), path=f"{entry.uri}~")
    ):
        assert project.run().code == 3

    found = {document["uri"]: document for document in plan(project)["documents"]}

    assert gone.exists()
    assert (found["docs/gone.txt"]["action"], found["docs/gone.txt"]["reason_code"]) == ("read", "retry")
    assert found["docs/gone.txt"]["reason"].startswith(
        "failed for a reason that may be gone: missing: the file is gone"
    )


def test_a_plan_that_would_overwrite_a_run_reads_everything_again(project: Project) -> None:
    assert project.run().code == 3

    planned = plan(project, "--set", "output.mode=overwrite")

    assert (planned["exists"], actions(planned)["docs/a.txt"]) == (False, "read")


def test_a_plan_honours_limit_and_output(project: Project, tmp_path: Path) -> None:
    assert project.run().code == 3

    planned = plan(project, "--limit", "1", "-o", str(tmp_path / "other"))

    assert (planned["run"], actions(planned)) == (str(tmp_path / "other"), {"docs/a.txt": "read"})


def test_a_plan_for_people_names_every_document_and_what_is_left(project: Project) -> None:
    said = unspool("plan", str(project.job))

    assert (said.code, said.err) == (0, "")
    for name in ("docs/a.txt", "docs/b.txt", "docs/empty.txt", "to read, about", "tokens;"):
        assert name in said.out


def test_the_status_of_a_finished_run_counts_what_it_did(project: Project) -> None:
    ran = project.run("--json").data

    now = status(project)

    assert (now["state"], now["name"], now["documents"], now["done"], now["failed"]) == ("finished", "small", 3, 2, 1)
    assert (now["tokens"], now["bytes_done"]) == (ran["tokens"], now["bytes_total"])
    assert now["open"] == []
    [failure] = now["failures"]
    assert (failure["uri"], failure["reason"]) == ("docs/empty.txt", "empty: the file is empty")


def test_the_status_of_a_stopped_run_names_the_open_document_and_where_it_was_saved(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6

    now = status(project)

    assert (now["state"], now["done"], now["failed"], now["epoch"]) == ("stopped", 0, 0, 1)
    assert [(document["uri"], document["tokens"]) for document in now["open"]] == [("docs/a.txt", 384)]
    assert 0 <= now["last_checkpoint_age"] < 600


def test_the_status_of_a_run_that_is_worked_on_says_so(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6

    with RunDirectory.open(project.out, Disk()).lock():
        assert status(project)["state"] == "running"

    assert status(project)["state"] == "stopped"


def test_looking_at_a_stopped_run_changes_nothing_in_it(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6
    before = {**contents(project.out), **_times(project.out)}

    plan(project)
    status(project)
    unspool("status", str(project.out))
    unspool("verify", str(project.out))

    assert {**contents(project.out), **_times(project.out)} == before


def _times(folder: Path) -> dict[str, Any]:
    return {f"{path} written": path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_status_for_people_has_the_same_figures(project: Project) -> None:
    project.run(faults=STOPPED)
    stopped = unspool("status", str(project.out)).out
    project.run()
    finished = unspool("status", str(project.out)).out

    assert "stopped; 0 done, 0 failed of 3 documents" in _one_line(stopped)
    assert "open: docs/a.txt, saved at token 384" in _one_line(stopped)
    assert "finished; 2 done, 1 failed of 3 documents" in _one_line(finished)
    assert "failed: docs/empty.txt: empty: the file is empty" in _one_line(finished)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_torn_line_of_the_event_log_does_not_disturb_the_status(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6
    last = events(project.out)[-1]["event"]
    with (project.out / "events.jsonl").open("ab") as file:
        file.write(b'{"ts": "2026-01-')

    assert status(project)["last_event"] == last


def test_the_event_log_tells_the_life_of_a_run_without_its_text(project: Project) -> None:
    project.run(faults=STOPPED)
    project.run()

    found = events(project.out)
    assert [event["epoch"] for event in found if event["event"] == "run_started"] == [1, 2]
    assert found[-1]["event"] == "run_finished"
    done = {event["doc_id"]: event["tokens_fed"] for event in found if event["event"] == "document_done"}
    assert len(done) == 2
    assert not any(sentence in json.dumps(found) for sentence in prose(40).split(". "))


def test_the_plan_and_the_run_refuse_the_same_job_over_a_run_of_another(project: Project) -> None:
    assert project.run().code == 3
    project.write_job(tasks=TASKS[:1])

    planned, ran = unspool("plan", str(project.job)), project.run()

    assert (planned.code, planned.err) == (ran.code, ran.err)
    assert planned.code == 4


def test_an_output_may_be_named_by_the_address_of_a_store(project: Project) -> None:
    short = unspool("plan", str(project.job), "--json", "-o", "s3://bucket/run")
    long = unspool("plan", str(project.job), "--json", "--set", "output.path=s3://bucket/run")
    assert short == long and "s3:/bucket" not in short.out + short.err
