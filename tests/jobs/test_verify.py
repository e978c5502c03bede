"""Verify finds every change that was made to a run behind its back, and nothing in a run that is well."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.errors import ExitCode, JobError
from jobs.ledger import RunLedger
from jobs.records import Epoch, Invalidate, Output, OutputFile
from jobs.run_directory import RunDirectory
from jobs.verify import damaged_documents, verify
from pipeline.durable import seal, sha256_hex, unseal
from tests.jobs.fake_driver import drive, make_corpus, quick_disk, result


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite_ledger(path: Path) -> None:
    """A change of the last record that also corrects its sum."""
    path.write_bytes(seal(unseal(path.read_bytes()).replace(b"documents/part", b"documents/tarp", 1)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_corpus(folder, 3)
    drive(folder, quick_disk())
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return RunDirectory.open(tmp_path / "run", quick_disk())


def differences(run: RunDirectory) -> str:
    try:
        return "\n".join(verify(run))
    except JobError as error:  # of what is to be there itself
        return str(error)


def test_nothing_is_found_in_a_finished_run(run: RunDirectory) -> None:
    assert verify(run) == []


@pytest.mark.parametrize("change", [flip, truncate, Path.unlink])
@pytest.mark.parametrize(
    "place",
    [
        "parts/sentences/*.parquet",
        "parts/states/*.arrow",
        "states/*.arrow",
        "output/sentences/part-00000*",
        "output/README.md",
        "output/_MANIFEST.json",
        "inputs/manifest-000001.jsonl",
        "ledger/00000002.json",
    ],
)
def test_a_file_that_was_changed_or_removed_is_named(
    run: RunDirectory, place: str, change: Callable[[Path], None]
) -> None:
    path = min(run.path.glob(place))
    change(path)

    assert path.name in differences(run)


def test_a_file_that_does_not_belong_to_the_output_is_named(run: RunDirectory) -> None:
    (run.output / "sentences" / "part-00099.parquet").touch()

    assert "output/sentences/part-00099.parquet: does not belong" in differences(run)


def test_a_final_record_that_names_other_files_is_found(run: RunDirectory) -> None:
    rewrite_ledger(max(run.ledger.glob("*.json")))

    assert "documents/tarp" in differences(run)


@pytest.mark.parametrize("wrong", ["row lost", "other order", "document lost"])
def test_an_output_that_does_not_hold_the_rows_of_the_parts_is_found(run: RunDirectory, wrong: str) -> None:
    path = run.output / "sentences" / "part-00000-of-00003.parquet"
    rows = pq.read_table(path)
    first = rows.column("doc_id")[0]
    changed = {
        "row lost": rows.slice(1),
        "other order": rows.take(list(reversed(range(rows.num_rows)))),
        "document lost": rows.filter(pc.not_equal(rows.column("doc_id"), first)),
    }
    pq.write_table(changed[wrong], path)
    _commit_output_as_it_is(run)

    assert "output/sentences: " in differences(run)


def _commit_output_as_it_is(run: RunDirectory) -> None:
    """Make the file list and a final record that fit the files in output/, as a faulty finalise would."""
    names = [path.relative_to(run.output).as_posix() for path in run.output.rglob("*") if path.is_file()]
    listed = [_output_file(run, name) for name in sorted(names) if name != "_MANIFEST.json"]
    files = {"files": [asdict(file) for file in listed]}
    (run.output / "_MANIFEST.json").write_text(json.dumps(files), encoding="utf-8")
    owner = Epoch.of_this_process("test", {})
    ledger = RunLedger.take_over(RunLedger.read(run.ledger), run.disk, run.torn_records, owner)
    ledger.commit(Output((_output_file(run, "_MANIFEST.json"), *listed)))


def _output_file(run: RunDirectory, name: str) -> OutputFile:
    data = (run.output / name).read_bytes()
    return OutputFile(name, len(data), sha256_hex(data))


def test_a_torn_last_record_is_found(run: RunDirectory) -> None:
    truncate(max(run.ledger.glob("*.json")))

    assert "the last record is torn" in differences(run)


def test_a_checkpoint_whose_content_does_not_match_its_name_is_found(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    with pytest.raises(JobError):
        drive(tmp_path, quick_disk("checkpoint.after_write=raise:EIO@2"))
    run = RunDirectory.open(tmp_path / "run", quick_disk())
    assert verify(run) == []
    flip(max(run.checkpoints.rglob("*.arrow")))

    assert "does not match the hash in its name" in differences(run)


def test_a_document_without_an_outcome_is_found_once_the_run_is_finished(run: RunDirectory) -> None:
    lines = unseal(run.manifest.read_bytes())
    extra = lines.splitlines(keepends=True)[0].replace(b'"ordinal":0', b'"ordinal":4').replace(b'id":"d', b'id":"dx')
    run.manifest.write_bytes(seal(lines + extra))

    assert "neither done nor quarantined" in differences(run)


def test_a_document_that_is_listed_twice_is_found(run: RunDirectory) -> None:
    lines = unseal(run.manifest.read_bytes())
    run.manifest.write_bytes(seal(lines + lines.splitlines(keepends=True)[0].replace(b'l":0', b'l":4')))

    assert "more than once in the manifest" in differences(run)


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("sentences", "index", 7, "sentence 1 is"),
        ("sentences", "id", "d#s0000000", "sentence 1 is"),
        ("documents", "coverage", 0.5, "status ok with a coverage of 0.5"),
        ("documents", "status", "partial", "its row in documents says"),
    ],
)
def test_rows_that_contradict_themselves_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, column: str, value: object, message: str
) -> None:
    from tests.jobs import fake_driver

    honest = fake_driver.rows_of

    def wrong(schema: object, rows: list[dict[str, object]]) -> object:
        place = 1 if table == "sentences" else 0
        if column in rows[0] and (table == "sentences") == ("index" in rows[0]) and len(rows) > place:
            rows[place] = rows[place] | {column: value}
        return honest(schema, rows)

    monkeypatch.setattr(fake_driver, "rows_of", wrong)
    make_corpus(tmp_path, 2)
    drive(tmp_path, quick_disk())

    assert message in differences(RunDirectory.open(tmp_path / "run", quick_disk()))


def test_a_document_with_a_damaged_part_is_found_and_read_again(run: RunDirectory) -> None:
    before = result(run.path.parent)
    flip(min(run.path.glob("parts/sentences/*.parquet")))
    view = RunLedger.read(run.ledger)
    damaged = damaged_documents(run, view.done.values())
    ledger = RunLedger.take_over(view, quick_disk(), run.torn_records, Epoch.of_this_process("test", {}))
    ledger.commit(Invalidate(tuple(damaged), "damaged part"))
    drive(run.path.parent, quick_disk())

    assert len(damaged) == 1
    assert result(run.path.parent) == before
    assert verify(run) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot be told to forget a file")
def test_parts_are_read_from_the_disk_whatever_the_system_remembers_of_them(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: set[str] = set()

    def forget(descriptor: int, start: int, size: int, advice: int) -> None:
        assert (start, size, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        forgotten.add(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "posix_fadvise", forget)
    view = RunLedger.read(run.ledger)

    assert damaged_documents(run, view.done.values()) == {}

    parts = [part for document in view.done.values() for part in document.parts]
    assert forgotten == {str(run.locate(part.path)) for part in parts}


def test_a_damaged_part_keeps_the_output_from_being_made(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    with pytest.raises(JobError):
        drive(tmp_path, quick_disk("finalize.before_rename=raise:EIO"))
    flip(min((tmp_path / "run").glob("parts/sentences/*.parquet")))

    with pytest.raises(JobError, match="RUN-PART-DAMAGED") as caught:
        drive(tmp_path, quick_disk())
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert not (tmp_path / "run" / "output").exists()
