"""The real command, killed at every point or failing at random: run again, it ends with the same bytes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.errors import ExitCode
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk, Point
from tests.faults.real_runs import DONE, KILLED, Killed, Runs, flaky
from tests.jobs.project import contents

KILLS = 60
"""Of the short profile: one at each point, the others at points and moments that are drawn."""

# What is moved aside is an old output, and there is one only where a new one had already got its name.
FIRST = {Point.FINALIZE_MOVED_ASIDE: f"{Point.FINALIZE_AFTER_RENAME}=kill"}

TOLD_TO_STOP_AT = (
    Point.PUBLISH_BEFORE_RENAME,  # of the list of inputs
    Point.COMMIT_AFTER_LINK,  # of run.json
    Point.CHECKPOINT_BEFORE_WRITE,
    Point.FINALIZE_AFTER_FILE,
    Point.FINALIZE_BEFORE_RENAME,
    Point.FINALIZE_AFTER_RECORD,
)
"""Before anything is read, while it is read, and while tables are written; the soak goes over all points."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs.over(tmp_path_factory.mktemp("runs"))


def read(out: Path, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "output" / table).to_pylist()
    return rows


@pytest.mark.parametrize("point", Point)
def test_a_run_killed_at_any_point_ends_with_the_same_bytes(runs: Runs, tmp_path: Path, point: Point) -> None:
    if point in FIRST:
        assert runs.live(tmp_path / "out", FIRST[point]) == KILLED
    assert runs.live(tmp_path / "out", f"{point}=kill") == KILLED

    assert runs.live(tmp_path / "out", "") == DONE
    assert runs.wrong(tmp_path / "out") == ""


@pytest.mark.parametrize("point", TOLD_TO_STOP_AT)
def test_a_run_told_to_stop_at_a_point_does_so_and_ends_with_the_same_bytes(
    runs: Runs, tmp_path: Path, point: Point
) -> None:
    assert runs.interrupt(tmp_path / "out", point) == ExitCode.INTERRUPTED

    assert runs.live(tmp_path / "out", "") == DONE
    assert runs.wrong(tmp_path / "out") == ""


def test_a_run_killed_over_and_over_loses_doubles_and_changes_nothing(runs: Runs, tmp_path: Path) -> None:
    killed = Killed(runs, tmp_path)

    wrong = [killed.kill(seed) for seed in range(KILLS - len(Point))]

    assert [*filter(None, [*wrong, killed.finish()])] == []


def test_a_document_that_crashes_the_process_that_reads_it_is_given_up_after_three_and_the_others_lose_no_byte(
    runs: Runs, tmp_path: Path
) -> None:
    out, golden, first = tmp_path / "out", runs.golden, "docs/first.txt"

    codes = [runs.live(out, "documents=segfault:docs/second.txt") for _ in range(4)]

    assert codes == [-signal.SIGSEGV] * 3 + [DONE]
    [row] = [row for row in read(out, "failures") if row["error_type"] != "empty"]
    assert (row["source_uri"], row["error_type"], row["retryable"]) == ("docs/second.txt", "worker_crashed", True)
    assert row["message"].endswith("lost 3 times, the last time because it crashed (Segmentation fault)")
    [good] = [row["doc_id"] for row in read(out, "documents") if row["source_uri"] == first]
    for table in ("documents", "sentences", "summaries"):
        assert [row for row in read(out, table) if row["doc_id"] == good] == [
            row for row in read(golden, table) if row["doc_id"] == good
        ]
    assert contents(out / "states").items() == {
        (name, digest) for name, digest in contents(golden / "states").items() if name.startswith(good)
    }
    assert verify(RunDirectory.open(out, Disk())) == []


@pytest.mark.parametrize("point", ["commit.before_link=stop@4", "finalize.before_rename=stop"])
def test_a_driver_that_stood_still_while_another_took_over_stops_and_harms_nothing(
    runs: Runs, tmp_path: Path, point: str
) -> None:
    out = tmp_path / "out"

    def taken_over(_: int) -> None:
        (out / "LOCK").unlink()  # as if the machine with the first driver were gone, and its lock with it
        assert runs.live(out, "") == DONE

    assert runs.stand_still(out, point, taken_over) in (ExitCode.OTHER_RUNNER, ExitCode.ENVIRONMENT)
    assert runs.live(out, "") == DONE
    assert runs.wrong(out) == ""


def test_a_run_on_a_machine_where_every_step_may_fail_ends_with_the_same_bytes(runs: Runs, tmp_path: Path) -> None:
    assert flaky(runs, 0, tmp_path / "out") == ""
