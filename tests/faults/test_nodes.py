"""A job on a cluster of three nodes, two of which are lost while it reads: nothing is lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.nodes import (
    NODES,
    Nodes,
    cluster,
    project,
    run_while_nodes_are_lost,
    run_while_nodes_join,
    start,
    wrong,
)
from tests.jobs.project import contents, events, finish

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One cluster for the whole module: it takes seconds to start."""
    with cluster() as found:
        yield found


def test_a_worker_that_no_node_has_room_for_stops_the_job_in_one_line(tmp_path: Path, nodes: Nodes) -> None:
    job = project(tmp_path / "project", 5)

    said = finish(start("run", str(job.job), "--no-progress", "--set", "ray.resources={fast_disk: 1}"))

    ours = [line for line in said.err.splitlines() if not line.startswith("Found multiple active Ray instances")]
    assert (said.code, len(ours)) == (6, 1), said.err  # Ray says it where other tests have clusters of their own
    assert ours[0].startswith(f"error[RAY] none of the {NODES} node(s) has room for a worker with 1 CPU, 1 fast_disk")


def test_a_job_during_which_one_node_is_killed_and_one_stopped_gives_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, nodes: Nodes
) -> None:
    job = project(tmp_path / "project", 1500)
    assert job.run("-o", str(tmp_path / "golden"), "-j", "0").code == 0
    expected = contents(tmp_path / "golden" / "output") | contents(tmp_path / "golden" / "states")

    said = run_while_nodes_are_lost(nodes, job, tmp_path / "out")

    assert said.code == 0, said.err
    assert wrong(tmp_path / "out", expected) == ""


def test_nodes_that_join_take_part_in_a_job_that_runs(tmp_path: Path, nodes: Nodes) -> None:
    job, out = project(tmp_path / "project", 200), tmp_path / "out"
    assert job.run("-o", str(tmp_path / "golden"), "-j", "0").code == 0

    said = run_while_nodes_join(nodes, job, out)

    assert said.code == 0, said.err
    assert contents(out / "output") == contents(tmp_path / "golden" / "output")
    heard = [event["event"] for event in events(out)]
    assert (heard.count("worker_ready"), heard.count("worker_lost")) == (NODES, 0)
