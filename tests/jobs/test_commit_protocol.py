"""Killed, out of space or raced at any point: the run can be continued, and ends with the same bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from jobs.errors import ExitCode, JobError
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk, Point
from tests.faults import forked
from tests.jobs.fake_driver import drive, main, make_corpus, quick_disk, result

KILLED = -9
# The folder that is moved aside exists only after a crash between the rename and the final record.
POINTS = [point for point in Point if point is not Point.FINALIZE_MOVED_ASIDE]


@pytest.fixture
def processes() -> ForkServerContext:
    return forked.processes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    make_corpus(folder)
    drive(folder, Disk())
    return result(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    make_corpus(tmp_path)
    yield tmp_path


def run_and_die(processes: ForkServerContext, folder: Path, faults: str) -> int:
    child = processes.Process(target=main, args=(str(folder), faults, 5))
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def assert_well(folder: Path, expected: dict[str, bytes]) -> None:
    """Same bytes, nothing left over, and no document read again after it was acknowledged."""
    assert result(folder) == expected
    assert verify(RunDirectory.open(folder / "run", Disk())) == []
    assert not list((folder / "run").rglob("*.tmp-*"))
    acknowledged: set[str] = set()
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        event, doc_id = line.split()[:2]
        assert not (event == "open" and doc_id in acknowledged), f"{doc_id} was read again"
        if event == "ack":
            acknowledged.add(doc_id)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_anywhere_ends_with_the_same_bytes(
    processes: ForkServerContext,
    folder: Path,
    expected: dict[str, bytes],
    point: Point,
    nth: int,
) -> None:
    code = run_and_die(processes, folder, f"{point}=kill@{nth}")
    assert code == (0 if nth == 2 and point.startswith("finalize.") and "file" not in point else KILLED)
    drive(folder, quick_disk())
    drive(folder, quick_disk())  # a third time there is nothing to do

    assert_well(folder, expected)


@pytest.mark.parametrize("point", [Point.FINALIZE_BEFORE_RENAME, Point.FINALIZE_MOVED_ASIDE])
def test_a_second_kill_while_an_old_output_is_replaced_does_no_harm(
    processes: ForkServerContext,
    folder: Path,
    expected: dict[str, bytes],
    point: Point,
) -> None:
    assert run_and_die(processes, folder, "finalize.after_rename=kill") == KILLED
    assert run_and_die(processes, folder, f"{point}=kill") == KILLED
    drive(folder, quick_disk())

    assert_well(folder, expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    processes: ForkServerContext, folder: Path, expected: dict[str, bytes], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(6):
        run_and_die(processes, folder, f"{chance.choice(POINTS)}=kill@{chance.randint(1, 6)}")
    drive(folder, quick_disk())

    assert_well(folder, expected)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("point", POINTS)
def test_a_failing_disk_stops_the_run_and_it_can_go_on_later(
    folder: Path, expected: dict[str, bytes], point: Point, error: str
) -> None:
    with pytest.raises(JobError, match=f"injected at {point}") as caught:
        drive(folder, quick_disk(f"{point}=raise:{error}"))
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    drive(folder, quick_disk())

    assert_well(folder, expected)


def test_a_second_driver_is_told_who_holds_the_run(folder: Path) -> None:
    drive(folder, quick_disk())
    with (
        RunDirectory.open(folder / "run", Disk()).lock(),
        pytest.raises(JobError, match="is working on this run") as caught,
    ):
        drive(folder, quick_disk())

    assert caught.value.exit_code == ExitCode.OTHER_RUNNER


def test_without_the_lock_the_ledger_stops_the_slower_of_two_drivers(folder: Path, expected: dict[str, bytes]) -> None:
    class Overtaken(Disk):
        """As it is about to commit its first documents, another driver removes the lock and does the whole run."""

        puts = 0  # run.json, the manifest, the epoch, the documents

        def reach(self, point: Point) -> None:
            self.puts += point is Point.COMMIT_BEFORE_LINK
            if point is Point.COMMIT_BEFORE_LINK and self.puts == 4:
                (folder / "run" / "LOCK").unlink()
                drive(folder, quick_disk())

    with pytest.raises(JobError) as caught:
        drive(folder, Overtaken(flush=lambda _: None))

    assert caught.value.code == "RUN-TAKEN-OVER"
    assert caught.value.exit_code == ExitCode.OTHER_RUNNER
    assert result(folder) == expected


@pytest.mark.parametrize("part_rows", [1, 2, 1000])
def test_the_output_does_not_depend_on_how_the_parts_were_cut(
    folder: Path, expected: dict[str, bytes], part_rows: int
) -> None:
    drive(folder, quick_disk(), part_rows)

    assert result(folder) == expected


def test_a_torn_last_record_is_healed_and_the_run_goes_on(folder: Path, expected: dict[str, bytes]) -> None:
    with pytest.raises(JobError):
        drive(folder, quick_disk("commit.after_link=raise:EIO@5"))
    newest = max((folder / "run" / "ledger").glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:-20])
    (folder / "log").unlink()
    drive(folder, quick_disk())

    assert_well(folder, expected)
    assert len(list((folder / "run" / "quarantine" / "ledger").iterdir())) == 1


def test_damage_inside_the_ledger_stops_the_next_driver(folder: Path) -> None:
    drive(folder, quick_disk())
    record = folder / "run" / "ledger" / "00000002.json"
    record.write_bytes(record.read_bytes().replace(b"documents", b"dokuments"))

    with pytest.raises(JobError, match="RUN-LEDGER-DAMAGED") as caught:
        drive(folder, quick_disk())
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
