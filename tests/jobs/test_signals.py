"""A run that is told to stop does so whatever it is doing, and goes on. More points: faults/test_real_runs.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.errors import ExitCode
from tests.jobs.project import REPOSITORY, Project, events, finish, prose, start, unspool, wait_for_event
from tests.pipeline.samples import PAGE
from tests.processes import command_of, descendants, start_tree

PATIENCE_SECONDS = 120


def parser_of(process: subprocess.Popen[str]) -> int:
    """The process that parses a document for a run, once there is one."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for pid in descendants(process.pid):
            if "sandbox_child" in command_of(pid):
                return pid
        time.sleep(0.002)
    raise AssertionError("nothing is parsed")


def test_a_run_told_to_stop_while_it_loads_its_model_stops(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(5))
    process = start("run", str(project.job), "--no-progress")
    wait_for_event(project.out, "run_started", process)

    process.send_signal(signal.SIGTERM)

    said = finish(process, timeout=PATIENCE_SECONDS)
    assert said.code == ExitCode.INTERRUPTED, said.err
    assert unspool("status", str(project.out), "--json").data["state"] == "stopped"
    assert project.run().code == 0


def test_a_run_told_to_stop_while_it_parses_ends_the_parser_and_stops(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.document("page.html", PAGE)
    process = start("run", str(project.job), "--no-progress")
    parser = parser_of(process)
    os.kill(parser, signal.SIGSTOP)  # it will not be done before the signal comes

    process.send_signal(signal.SIGINT)

    said = finish(process, timeout=PATIENCE_SECONDS)
    assert said.code == ExitCode.INTERRUPTED, said.err
    assert command_of(parser) == ""
    assert project.run().code == 0


@pytest.mark.xdist_group("ray")
def test_a_run_told_to_stop_while_ray_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(5))
    log = tmp_path / "said"
    program = ("-c", "import jobs.run, jobs.cli; jobs.run.processors = lambda: 1; jobs.cli.main()")
    with log.open("wb") as said:
        tree = start_tree([sys.executable, *program, "run", str(project.job), "--no-progress", "-j", "1"], said)
        while not any("gcs_server" in command_of(pid) for pid in tree.members()):
            assert tree.process.poll() is None, log.read_text()
            time.sleep(0.005)
        os.kill(tree.process.pid, signal.SIGTERM)
        code = tree.process.wait(timeout=PATIENCE_SECONDS)
        left = tree.kill()

    assert (code, left) == (ExitCode.INTERRUPTED, set()), log.read_text()
    assert not list(Path("/tmp").glob(f"unspool-ray-{tree.process.pid}-*"))
    assert "error" not in log.read_text()


def test_what_does_not_save_in_time_is_left_and_the_process_ends() -> None:
    program = (
        "import os, signal, threading, jobs.signals\n"
        "jobs.signals.SECONDS_TO_SAVE = 0.2\n"
        "signals = jobs.signals.Signals(wanted=True)\n"
        "with signals.listening(), signals.noted_only():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    threading.Event().wait()\n"
    )

    said = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)

    assert said.returncode == ExitCode.INTERRUPTED
    assert said.stderr.startswith("warning: not everything could be saved in time")


def test_a_signal_before_anything_is_read_is_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(5))

    process = start("run", str(project.job), faults="commit.before_link=stop")  # run.json is about to be there
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)

    said = finish(process)
    assert (said.code, said.out) == (ExitCode.INTERRUPTED, "")
    assert said.err == "error[INTERRUPTED] interrupted before anything was read; run again to go on\n"
    assert not events(project.out)
