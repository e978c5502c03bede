"""What may change between two lives of a run, and what is said of it. What may not: tests/jobs/test_bad_input.py."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from jobs.ledger import RunLedger
from tests.jobs.project import Project, events, finish, prose, start, unspool
from tests.processes import state_of

STOPPED = "checkpoint.after_write=raise:EIO@2"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", a=prose(40))
    project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"})
    return project


def taken_up_at(project: Project) -> list[int]:
    """The tokens at which each life has gone on with the document."""
    done = [event for event in events(project.out) if event["event"] in ("document_opened", "document_done")]
    return [
        event["tokens"] if event["event"] == "document_opened" else event["tokens"] - event["tokens_fed"]
        for event in done
    ]


def test_another_arithmetic_is_said_and_recorded_and_open_documents_are_read_from_their_start(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6

    said = project.run("--set", "run.window=128")

    assert said.code == 0
    assert "this machine computes other bits" in said.err and "start anew" in said.err
    assert len(RunLedger.read(project.out / "ledger").numerics) == 2
    assert taken_up_at(project)[-1] == 0


def test_other_versions_of_libraries_are_said_and_the_run_goes_on_where_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.run(faults=STOPPED).code == 6
    monkeypatch.setattr("jobs.prepare.versions", lambda: {"python": "3.99", "torch": "9"})

    said = project.run()

    assert said.code == 0
    assert "note: python was 3." in said.err and "now 3.99" in said.err
    assert taken_up_at(project)[-1] > 0
    owner = RunLedger.read(project.out / "ledger").owner
    assert owner is not None and owner.reason == "resume"


def test_an_input_that_changes_before_it_is_read_to_its_end_is_said_and_read_as_it_is_then(project: Project) -> None:
    assert project.run(faults=STOPPED).code == 6
    project.document("a.txt", prose(50, seed=9))

    said = project.run()

    assert "1 input(s) have changed since the run was started, the first is docs/a.txt" in said.err
    fresh = Project(project.folder.with_name("fresh"), a=prose(50, seed=9))
    fresh.write_job(model={"source": str(project.folder / "models" / "tiny.pth"), "dtype": "fp32"})
    assert (said.code, fresh.run().code) == (0, 0)
    assert project.output() == fresh.output()


def test_a_run_directory_that_is_moved_under_a_run_stops_it_and_is_gone_on_with_where_it_is(
    project: Project, tmp_path: Path
) -> None:
    process = start("run", str(project.job), "--no-progress", faults="checkpoint.before_write=stop@2")
    until = time.monotonic() + 120
    while state_of(process.pid) != "T" and time.monotonic() < until:
        time.sleep(0.01)
    moved = project.out.rename(tmp_path / "moved")
    os.kill(process.pid, signal.SIGCONT)

    said = finish(process, timeout=120)

    assert (said.code, said.err.count("error[")) == (6, 1), said.err
    assert "Traceback" not in said.err
    assert not (project.out / "run.json").exists()
    assert unspool("resume", str(moved), "--no-progress").code == 0
    assert unspool("verify", str(moved)).code == 0
    assert json.loads((moved / "summary.json").read_bytes())["documents"] == 1
