"""The ledger: what is committed is read back, damage is found, and of two drivers one stops."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import ExitCode, JobError
from jobs.ledger import LedgerView, RunLedger
from jobs.records import (
    Attempt,
    Done,
    Entry,
    Epoch,
    Finished,
    Invalidate,
    Numerics,
    Output,
    OutputFile,
    Pause,
    Quarantine,
    Record,
    Rows,
    SpecNote,
)
from pipeline.durable import Disk, Faults, Point, seal, sha256_hex, unseal
from pipeline.parts import Part

texts = st.text(st.characters(codec=None), max_size=20)
parts = st.builds(Part, texts, texts, st.integers(0), texts, st.integers(0), texts)
finished = st.builds(
    Finished,
    texts,
    texts,
    st.lists(parts, max_size=3).map(tuple),
    st.none() | texts,
    st.integers(0),
    st.floats(0, 1e9),
    st.integers(1),
)
tables = st.dictionaries(texts, texts, max_size=3)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Epoch, texts, st.integers(), texts, texts, tables),
    st.builds(Done, st.lists(finished, max_size=3).map(tuple)),
    st.builds(Quarantine, finished, texts, st.booleans()),
    st.builds(Rows, texts, st.lists(parts, max_size=3).map(tuple), st.integers(0)),
    st.builds(Attempt, texts, st.integers(0), texts),
    st.builds(Invalidate, st.lists(texts, max_size=3).map(tuple), texts),
    st.builds(Numerics, texts, tables),
    st.builds(SpecNote, st.lists(texts, max_size=3).map(tuple)),
    st.builds(Pause, texts),
    st.builds(Output, st.lists(st.builds(OutputFile, texts, st.integers(0), texts), max_size=3).map(tuple)),
)


def document(doc_id: str) -> Finished:
    part = Part(f"parts/sentences/{doc_id}.parquet", "sentences", 10, "0" * 64, 3)
    return Finished(doc_id, "ok", (part,), "1" * 64, 12, 0.5)


def read(doc_id: str) -> Done:
    return Done((document(doc_id),))


def take_over(run: Path) -> RunLedger:
    for name in ("ledger", "quarantine"):
        (run / name).mkdir(exist_ok=True)
    owner = Epoch.of_this_process("test", {"unspool": "0"})
    return RunLedger.take_over(RunLedger.read(run / "ledger"), Disk(flush=lambda _: None), run / "quarantine", owner)


def with_records(run: Path, records: Sequence[Record]) -> RunLedger:
    ledger = take_over(run)
    for record in records:
        ledger.commit(record)
    return ledger


def facts(view: LedgerView) -> tuple[object, ...]:
    return (
        view.seq,
        view.epoch,
        view.previous,
        dict(view.done),
        dict(view.quarantined),
        dict(view.attempts),
        dict(view.growing),
        dict(view.numerics),
        view.final,
    )


def record_file(run: Path, seq: int) -> Path:
    return run / "ledger" / f"{seq:08d}.json"


def test_rows_of_a_followed_document_add_up_until_it_is_finished_or_read_anew(tmp_path: Path) -> None:
    one, two, three = (Part(f"parts/sentences/{n}.parquet", "sentences", 10, "0" * 64, 3) for n in range(3))
    ledger = with_records(tmp_path, [Attempt("a", 1, "crashed"), Rows("a", (one,), 5), Rows("a", (two, three), 9)])

    assert ledger.view.growing == {"a": Rows("a", (one, two, three), 9)}
    assert facts(RunLedger.read(tmp_path / "ledger")) == facts(ledger.view)
    assert (ledger.view.parts(), ledger.view.attempts) == ({one.path, two.path, three.path}, {})

    ledger.commit(Invalidate(("a",), "read anew"))
    assert (ledger.view.growing, ledger.view.parts()) == ({}, frozenset())
    ledger.commit(Rows("a", (one,), 5))
    ledger.commit(read("a"))
    assert ledger.view.growing == {}
    with pytest.raises(ValueError, match="has grown, but it is finished"):
        ledger.commit(Rows("a", (two,), 9))


@given(record=records, seq=st.integers(1), epoch=st.integers(1))
def test_a_record_read_back_is_the_record(record: Record, seq: int, epoch: int) -> None:
    entry = Entry(seq, epoch, "a" * 64, record)
    data = entry.to_bytes()

    assert Entry.from_line(unseal(data)) == entry
    assert Entry.from_line(unseal(data)).to_bytes() == data
    assert data.count(b"\n") == 2


@settings(max_examples=30, deadline=None)
@given(chosen=st.lists(records.filter(lambda record: not isinstance(record, Epoch)), max_size=8))
def test_reading_the_ledger_gives_what_its_writer_sees(chosen: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = take_over(Path(folder))
        for record in chosen:
            try:
                ledger.commit(record)
            except ValueError as error:
                assert "committed twice" in str(error)

        assert facts(RunLedger.read(Path(folder) / "ledger")) == facts(ledger.view)


def test_records_name_the_hash_of_the_record_before(tmp_path: Path) -> None:
    with_records(tmp_path, [read("d1"), read("d2")])
    first, second = record_file(tmp_path, 1).read_bytes(), record_file(tmp_path, 2).read_bytes()

    assert f'"prev":"{sha256_hex(first)}"'.encode() in second


def test_a_document_can_be_finished_once_until_it_is_invalidated(tmp_path: Path) -> None:
    ledger = with_records(tmp_path, [read("d1"), Quarantine(document("d2"), "not_utf8", retryable=False)])
    for again in (read("d1"), read("d2"), Quarantine(document("d1"), "x", retryable=True), Done((document("d3"),) * 2)):
        with pytest.raises(ValueError, match="committed twice"):
            ledger.commit(again)
    ledger.commit(Invalidate(("d1", "d2"), "retry"))
    ledger.commit(Done((document("d1"), document("d2"))))

    assert RunLedger.read(tmp_path / "ledger").done.keys() == {"d1", "d2"}
    assert not ledger.view.quarantined


def test_more_work_makes_a_finished_run_unfinished(tmp_path: Path) -> None:
    ledger = with_records(tmp_path, [read("d1"), Output(())])
    assert ledger.view.final == Output(())
    ledger.commit(Invalidate(("d1",), "retry"))

    assert ledger.view.final is None


def test_attempts_are_counted_until_the_document_is_finished(tmp_path: Path) -> None:
    ledger = with_records(tmp_path, [Attempt("d1", 1, "SIGSEGV"), Attempt("d1", 2, "SIGSEGV"), Attempt("d2", 1, "oom")])
    assert dict(ledger.view.attempts) == {"d1": 2, "d2": 1}
    ledger.commit(read("d1"))

    assert dict(ledger.view.attempts) == {"d2": 1}


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped"])
def test_a_torn_last_record_is_set_aside_and_its_documents_are_open_again(tmp_path: Path, damage: str) -> None:
    with_records(tmp_path, [read("d1"), read("d2")])
    path = record_file(tmp_path, 3)
    data = path.read_bytes()
    torn = {"empty": b"", "truncated": data[:-9], "flipped": data.replace(b"d2", b"d3")}[damage]
    path.write_bytes(torn)

    view = RunLedger.read(tmp_path / "ledger")
    ledger = take_over(tmp_path)
    ledger.commit(read("d2"))

    assert view.torn == path
    assert view.done.keys() == {"d1"}
    assert RunLedger.read(tmp_path / "ledger").done.keys() == {"d1", "d2"}
    assert [kept.read_bytes() for kept in (tmp_path / "quarantine").iterdir()] == [torn]


@pytest.mark.parametrize("damage", ["flipped", "missing", "rewritten", "copied"])
def test_damage_before_the_last_record_stops_everything(tmp_path: Path, damage: str) -> None:
    with_records(tmp_path, [read("d1"), read("d2"), read("d3")])
    path = record_file(tmp_path, 3)
    if damage == "flipped":
        path.write_bytes(path.read_bytes().replace(b"d2", b"d9"))
    elif damage == "missing":
        path.unlink()
    elif damage == "rewritten":
        path.write_bytes(seal(unseal(path.read_bytes()).replace(b"d2", b"d9")))
    else:
        path.write_bytes(record_file(tmp_path, 2).read_bytes())
    before = {path: path.read_bytes() for path in (tmp_path / "ledger").iterdir()}

    with pytest.raises(JobError, match=r"RUN-LEDGER-DAMAGED.*damaged at record [34]") as caught:
        take_over(tmp_path)

    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert {path: path.read_bytes() for path in (tmp_path / "ledger").iterdir()} == before


def test_a_last_record_that_is_whole_but_does_not_fit_is_not_thrown_away(tmp_path: Path) -> None:
    with_records(tmp_path, [read("d1")])
    record_file(tmp_path, 3).write_bytes(record_file(tmp_path, 2).read_bytes())

    with pytest.raises(JobError, match="record 3"):
        RunLedger.read(tmp_path / "ledger")


def test_a_record_of_a_later_version_is_not_thrown_away(tmp_path: Path) -> None:
    with_records(tmp_path, [read("d1")])
    path = record_file(tmp_path, 2)
    path.write_bytes(seal(unseal(path.read_bytes()).replace(b'"v":1', b'"v":2')))

    with pytest.raises(JobError, match="version 2"):
        RunLedger.read(tmp_path / "ledger")


def test_of_two_who_take_over_at_once_the_slower_stops(tmp_path: Path) -> None:
    with_records(tmp_path, [read("d1")])
    views = [RunLedger.read(tmp_path / "ledger") for _ in range(2)]
    owner = Epoch("somewhere", 4711, "", "test", {})
    RunLedger.take_over(views[0], Disk(), tmp_path / "quarantine", owner)

    with pytest.raises(JobError, match="epoch 2, process 4711 on host somewhere") as caught:
        RunLedger.take_over(views[1], Disk(), tmp_path / "quarantine", owner)
    assert (caught.value.code, caught.value.exit_code) == ("RUN-TAKEN-OVER", ExitCode.OTHER_RUNNER)


def test_a_driver_that_was_replaced_can_commit_nothing_more(tmp_path: Path) -> None:
    old = with_records(tmp_path, [read("d1")])
    new = take_over(tmp_path)
    for _ in range(2):
        with pytest.raises(JobError, match="RUN-TAKEN-OVER"):
            old.commit(read("d2"))
    new.commit(read("d2"))

    assert facts(RunLedger.read(tmp_path / "ledger")) == facts(new.view)


def test_who_heals_a_ledger_that_somebody_else_has_healed_gives_the_record_back(tmp_path: Path) -> None:
    with_records(tmp_path, [read("d1")])
    record_file(tmp_path, 2).write_bytes(b"torn")
    late = RunLedger.read(tmp_path / "ledger")
    new = take_over(tmp_path)
    new.commit(read("d2"))

    with pytest.raises(JobError, match="RUN-TAKEN-OVER"):
        RunLedger.take_over(late, Disk(), tmp_path / "quarantine", Epoch("h", 1, "", "late", {}))
    assert facts(RunLedger.read(tmp_path / "ledger")) == facts(new.view)


class FullDisk(Disk):
    """A disk that has no room for another record for as long as a file takes it up."""

    def __init__(self, reserve: Path) -> None:
        super().__init__(flush=lambda _: None)
        self._takes_up = reserve

    def reach(self, point: Point) -> None:
        if point is Point.COMMIT_BEFORE_LINK and self._takes_up.exists():
            raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_reserve_makes_room_for_one_more_record(tmp_path: Path) -> None:
    view = take_over(tmp_path).view
    disk, reserve = FullDisk(tmp_path / "reserve"), tmp_path / "reserve"
    disk.reserve(reserve, 1 << 16)
    assert reserve.stat().st_blocks * 512 >= 1 << 16
    ledger = RunLedger(view, disk, 1, reserve)

    ledger.commit(read("a"))

    assert not reserve.exists()
    assert RunLedger.read(tmp_path / "ledger").done.keys() == {"a"}
    assert [path.name for path in (tmp_path / "ledger").iterdir() if ".tmp-" in path.name] == []


@pytest.mark.parametrize("fault", ["commit.before_link=raise:ENOSPC", "commit.after_link=raise:ENOSPC"])
def test_without_a_reserve_or_with_a_record_that_is_there_after_all_a_full_disk_stops_the_driver(
    tmp_path: Path, fault: str
) -> None:
    view = take_over(tmp_path).view
    there = fault.startswith("commit.after_link")
    if there:
        (tmp_path / "reserve").touch()
    ledger = RunLedger(view, Disk(Faults.parse(fault), flush=lambda _: None), 1, tmp_path / "reserve")

    with pytest.raises(JobError if there else OSError):
        ledger.commit(read("a"))

    assert set(RunLedger.read(tmp_path / "ledger").done) == ({"a"} if there else set())


def test_a_record_that_could_not_be_read_back_is_never_written(tmp_path: Path) -> None:
    ledger = take_over(tmp_path)
    for wrong in (Pause(5), Done((Finished("d", "ok", (), None, 1, 2),))):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="is expected"):
            ledger.commit(wrong)

    assert ledger.view.seq == RunLedger.read(tmp_path / "ledger").seq == 1


def test_a_commit_that_failed_after_it_took_place_is_not_blamed_on_another_driver(tmp_path: Path) -> None:
    from pipeline.durable import Faults

    take_over(tmp_path)
    owner = Epoch.of_this_process("test", {})
    disk = Disk(Faults.parse("commit.after_link=raise:EIO@2"))
    ledger = RunLedger.take_over(RunLedger.read(tmp_path / "ledger"), disk, tmp_path / "quarantine", owner)
    with pytest.raises(OSError, match="injected"):
        ledger.commit(read("d1"))

    with pytest.raises(JobError, match="RUN-WRITE-FAILED") as caught:
        ledger.commit(Pause("the disk failed"))
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert RunLedger.read(tmp_path / "ledger").done.keys() == {"d1"}
