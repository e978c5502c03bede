"""A disk that gets full stops the run with one line; with more room it goes on to the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.project import REPOSITORY, Project, prose


def in_namespace(kind: str, *command: str) -> list[str]:
    """A command in a namespace of its own, or a skipped test where nobody may make one."""
    if subprocess.run(["unshare", kind, "true"], capture_output=True).returncode:
        pytest.skip(f"`unshare {kind}` is not permitted here")
    return ["unshare", kind, *command]


def test_a_disk_that_gets_full_stops_the_run_in_one_line_and_with_more_room_it_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project", first=prose(150, 1), second=prose(140, 2), third=prose(10, 3))
    project.write_job(
        model={"source": str(project.write_model()), "dtype": "fp32"},
        run={"workers": 0, "window": 64, "lanes": 3},
    )
    assert project.run().code == 0
    command = in_namespace("-m", sys.executable, "-m", "tests.faults.full_disk", str(project.folder))

    said = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300)

    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    full = found["full"]
    assert full["code"] == 6
    [line] = [line for line in full["err"].splitlines() if line.startswith("error[")]
    assert "/disk/out/" in line and "No space left on device; make room" in line and "run again" in line
    assert found["last"]["t"] == "pause"
    assert found["again"] == 0, found["again_said"]
    assert found["output"] == project.output()
    assert not (project.out / "_reserve").exists(), "a finished run takes up room that it does not need"
