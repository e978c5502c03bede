"""Several machines on one shared folder: a driver that stood still is told who owns the run; anyone may look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk
from tests.faults.test_full_disk import in_namespace
from tests.jobs.project import REPOSITORY, Project, Said, contents, finish, prose, unspool, wait_for_event

# A machine of its own, as far as names go.
PROGRAM = (
    "import socket, sys\n"
    "socket.sethostname(sys.argv.pop(1))\n"
    "import jobs.cli, jobs.run, jobs.supervise\n"
    "jobs.run.processors = lambda: 1\n"
    "jobs.supervise._CALL_SECONDS = 0.05\n"
    "jobs.cli.main()\n"
)


def on_machine(name: str, *arguments: str) -> subprocess.Popen[str]:
    """The command on a machine of this name."""
    return subprocess.Popen(
        in_namespace("-u", sys.executable, "-c", PROGRAM, name, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def status(run: Path) -> tuple[str, int, str]:
    found = unspool("status", str(run), "--json").data
    return found["state"], found["epoch"], found["owner"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", a=prose(300, 1), b=prose(60, 2))
    made.write_job(
        model={"source": str(made.write_model()), "dtype": "fp32"},
        checkpoint={"every": {"tokens": 1024, "seconds": 3600}},
        run={"workers": 0, "window": 128},
    )
    return made


def test_a_driver_that_stood_still_while_another_machine_took_over_stops_and_changes_nothing(
    project: Project, tmp_path: Path
) -> None:
    assert project.run("-o", str(tmp_path / "golden")).code == 0
    run = ("run", str(project.job), "--no-progress")

    slow = on_machine("machine-a", *run)
    wait_for_event(project.out, "checkpoint", slow, timeout=180)
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        assert status(project.out) == ("running", 1, f"process {slow.pid} on machine-a")
        busy = finish(on_machine("machine-b", *run), timeout=180)
        assert (busy.code, busy.err.count("\n")) == (5, 1) and "on host machine-a" in busy.err
        (project.out / "LOCK").unlink()  # as on a file system whose locks end at the machine
        assert status(project.out)[0] == "running", "its last sign of life is young"
        taken = finish(on_machine("machine-b", *run), timeout=180)
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    woken: Said = finish(slow, timeout=180)

    assert taken.code == 0, taken.err
    assert woken.code == 5 and woken.err.splitlines()[-1].count("on host machine-b") == 1, woken.err
    assert status(project.out)[:2] == ("finished", 2)
    assert contents(project.out / "output") == contents(tmp_path / "golden" / "output")
    assert verify(RunDirectory.open(project.out, Disk())) == []
