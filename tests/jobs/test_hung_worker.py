"""Processes of a private cluster that stand still or die: the run goes on as if nothing had happened, or says why."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.jobs.project import Project, contents, events, finish, prose, start, unspool, wait_for_event
from tests.processes import command_of, descendants

pytestmark = pytest.mark.xdist_group("ray")


def project_of(folder: Path) -> Project:
    project = Project(folder / "project", first=prose(900, 1), second=prose(300, 2))
    project.write_job(
        model={"source": str(project.write_model())},
        checkpoint={"every": {"tokens": 1024, "seconds": 3600}},
        on_error={"stall_timeout": "2s"},
        run={"workers": 1, "window": 128},
    )
    return project


def test_a_stopped_worker_is_replaced_and_the_tables_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    project = project_of(tmp_path)
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


def test_a_run_whose_ray_head_dies_stops_with_one_line_and_can_go_on(tmp_path: Path) -> None:
    project = project_of(tmp_path)

    running = start("run", str(project.job), "--quiet")
    wait_for_event(project.out, "checkpoint", running)
    [head] = [pid for pid in descendants(running.pid) if command_of(pid).split(" ")[0].endswith("gcs_server")]
    os.kill(head, signal.SIGKILL)
    said = finish(running, timeout=120)

    assert said.code == 6, said.err
    assert said.err == "error[RAY] Ray on this machine has died (gcs_server); run again to resume\n"
    assert project.run("-j", "0").code == 0
    assert unspool("verify", str(project.out)).code == 0
