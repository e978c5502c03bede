"""A run needs no network: it works where there is nothing but the loopback interface."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.syscalls import is_possible
from tests.faults.test_full_disk import in_namespace
from tests.jobs.project import REPOSITORY, Project, contents, prose
from tests.pipeline.samples import PAGE

# The interface is down in a new namespace; SIOCSIFFLAGS with IFF_UP brings it up without a program for it.
UP = (
    "import fcntl, socket, struct, sys\n"
    "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:\n"
    "    fcntl.ioctl(any, 0x8914, struct.pack('16sh14x', b'lo', 1))\n"
    "assert [name for _, name in socket.if_nameindex() if name == 'lo']\n"
    "import jobs.run, jobs.cli\n"
    "jobs.run.processors = lambda: 1\n"
    "jobs.cli.main()\n"
)


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.xdist_group("ray"))], ids=["here", "ray"])
def test_a_run_works_where_there_is_no_network(tmp_path: Path, workers: str) -> None:
    project = Project(tmp_path / "project", first=prose(30, 1))
    project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"})
    assert project.run("-o", str(tmp_path / "golden")).code == 0
    run = ("run", str(project.job), "--no-progress", "-j", workers)

    said = subprocess.run(
        in_namespace("-n", sys.executable, "-c", UP, *run), capture_output=True, text=True, cwd=REPOSITORY, timeout=300
    )

    assert said.returncode == 0, said.stderr
    assert project.output() == contents(tmp_path / "golden" / "output")


def test_a_run_without_ray_opens_no_socket_to_anywhere(tmp_path: Path) -> None:
    if not is_possible():
        pytest.skip("strace is not there or may not be used")
    project, calls = Project(tmp_path / "project", first=prose(5)), tmp_path / "calls"
    project.document("page.html", PAGE)
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(calls), "-e", "trace=connect,bind,listen,sendto,execve"]
    command = [*trace, sys.executable, "-m", "jobs.cli", "run", str(project.job), "--no-progress"]

    said = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300)

    assert said.returncode == 0, said.stderr
    found = calls.read_text("utf-8").splitlines()
    assert sum("execve(" in call for call in found) >= 2, "the parser was not looked at"
    assert [call for call in found if "AF_INET" in call] == []
