"""The real command, killed at every point or failing at random: run again, it ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.durable import Point
from tests.faults.real_runs import KILLED, Runs, flaky

# What is moved aside is an old output, and there is one only where a new one had already got its name.
FIRST = {Point.FINALIZE_MOVED_ASIDE: f"{Point.FINALIZE_AFTER_RENAME}=kill"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs.over(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("point", Point)
def test_a_run_killed_at_any_point_ends_with_the_same_bytes(runs: Runs, tmp_path: Path, point: Point) -> None:
    if point in FIRST:
        assert runs.live(tmp_path / "out", FIRST[point]) == KILLED
    assert runs.live(tmp_path / "out", f"{point}=kill") == KILLED

    assert runs.live(tmp_path / "out", "") == 3
    assert runs.wrong(tmp_path / "out") == ""


def test_a_run_on_a_machine_where_every_step_may_fail_ends_with_the_same_bytes(runs: Runs, tmp_path: Path) -> None:
    assert flaky(runs, 0, tmp_path / "out") == ""
