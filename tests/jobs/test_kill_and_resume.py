"""A job that is killed with all its processes, over and over, ends with the output of one that was left alone.

The same with more kills and with the quickstart job: `python -m tests.bench.kill_and_resume`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from jobs.errors import ExitCode
from tests.bench.kill_and_resume import Job, contents, draw_moment, kill_over_and_over
from tests.jobs.project import Project, events, prose
from tests.processes import start_tree

CHECKPOINT_TOKENS = 1024
WINDOW = 128
SPAN_SECONDS = 1.0
# One thread: two that share a busy processor wait for each other at every window.
PROGRAM = (sys.executable, "-c", "import jobs.run, jobs.cli; jobs.run.processors = lambda: 1; jobs.cli.main()")


def job_of(project: Project, workers: int) -> Job:
    return Job(project.job, workers, CHECKPOINT_TOKENS + WINDOW, PROGRAM)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    documents = {"first": prose(900, 1), "second": prose(900, 2), "third": prose(300, 3)}
    project = Project(tmp_path_factory.mktemp("killed") / "project", **documents)
    project.write_job(
        model={"source": str(project.write_model())},
        checkpoint={"every": {"tokens": CHECKPOINT_TOKENS, "seconds": 3600}},
        run={"workers": 0, "window": WINDOW},
    )
    return project


@pytest.fixture(scope="module")
def golden(project: Project) -> Path:
    """The run that nobody disturbs."""
    out = project.folder / "golden"
    assert project.run("-o", str(out)).code == 0
    return out


@pytest.mark.parametrize(
    ("workers", "kills"), [(0, 4), pytest.param(2, 2, marks=pytest.mark.xdist_group("ray"))], ids=["alone", "ray"]
)
def test_a_job_killed_at_random_moments_ends_as_if_nobody_had_disturbed_it(
    project: Project, golden: Path, tmp_path: Path, workers: int, kills: int
) -> None:
    draw = random.Random(workers)
    moments = [draw_moment(draw, SPAN_SECONDS) for _ in range(kills)]

    verdict = kill_over_and_over(job_of(project, workers), golden, tmp_path / "killed", moments)

    assert verdict.kills == kills
    assert verdict.is_good(), verdict


@pytest.mark.xdist_group("ray")
def test_a_run_with_ray_that_is_told_to_stop_saves_and_leaves_nothing_behind(
    project: Project, golden: Path, tmp_path: Path
) -> None:
    job, out, log = job_of(project, 2), tmp_path / "out", tmp_path / "said"
    no_home = {**os.environ, "HOME": str(tmp_path / "no" / "home")}
    with log.open("wb") as said:
        tree = start_tree(job.run(out), said, no_home)
        while not any(event["event"] == "worker_ready" for event in events(out)):
            assert tree.process.poll() is None, log.read_text()
            time.sleep(0.01)
        os.kill(tree.process.pid, signal.SIGTERM)
        code = tree.process.wait(timeout=60)
        left = tree.kill()

    assert (code, left) == (ExitCode.INTERRUPTED, set())
    assert not list(Path("/tmp").glob(f"unspool-ray-{tree.process.pid}-*"))
    assert [line.split(" ")[0] for line in log.read_text().splitlines()] == ["stopped:", "interrupted"]
    assert project.run("-o", str(out)).code == 0
    assert contents(out / "output") == contents(golden / "output")
