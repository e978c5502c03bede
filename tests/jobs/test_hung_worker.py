"""A worker process that stands still is ended and replaced, and the run ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.jobs.project import Project, contents, events, finish, prose, start, wait_for_event

pytestmark = pytest.mark.xdist_group("ray")


def test_a_stopped_worker_is_replaced_and_the_tables_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", first=prose(900, 1), second=prose(300, 2))
    project.write_job(
        model={"source": str(project.write_model())},
        checkpoint={"every": {"tokens": 1024, "seconds": 3600}},
        on_error={"stall_timeout": "2s"},
        run={"workers": 1, "window": 128},
    )
    golden = tmp_path / "golden"
    assert project.run("-o", str(golden), "-j", "0").code == 0

    running = start("run", str(project.job), "--no-progress")
    wait_for_event(project.out, "checkpoint", running)
    pid = next(event["pid"] for event in events(project.out) if event["event"] == "worker_ready")
    os.kill(pid, signal.SIGSTOP)
    said = finish(running, timeout=120)

    lost = [event["cause"] for event in events(project.out) if event["event"] == "worker_lost"]
    assert (said.code, lost) == (0, ["hung"]), said.err
    assert contents(project.out / "output") == contents(golden / "output")
