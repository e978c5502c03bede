"""The run directory: what may become one, who may use it, and what may be removed from it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from jobs.errors import ExitCode, JobError
from jobs.run_directory import RunDirectory, RunInfo
from pipeline.durable import Disk, seal, unseal

INFO = RunInfo("id", "/jobs", {"tasks": [{"name": "vectors"}]}, "s" * 64, "m" * 64, "t" * 64, {"x": "1"}, "2026")


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(path, Disk(), INFO)


def refused(path: Path, code: str, exit_code: ExitCode) -> str:
    """The message with which creating a run at `path`, or opening the one there, fails."""
    with pytest.raises(JobError) as caught:
        RunDirectory.open(path, Disk()) if RunDirectory.exists(path) else create(path)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    return str(caught.value)


def test_a_run_that_is_opened_is_what_was_created(tmp_path: Path) -> None:
    created = create(tmp_path / "out" / "run")

    assert RunDirectory.open(created.path, Disk()).info == created.info == INFO
    assert stat.S_IMODE(created.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((created.path / "run.json").stat().st_mode) == 0o600
    assert created.ledger.is_dir()
    assert created.torn_records.is_dir()


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    create(tmp_path)

    assert RunDirectory.exists(tmp_path)


def test_a_link_to_a_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    create(tmp_path / "run")

    assert RunDirectory.exists(tmp_path / "disk")


def test_a_folder_with_other_things_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    assert "thesis.tex" in refused(tmp_path, "RUN-NOT-A-RUN", ExitCode.ENVIRONMENT)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_creation_left_behind_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run.json.tmp-0123").touch()
    (tmp_path / "probe.tmp-99").touch()
    create(tmp_path)

    assert RunDirectory.exists(tmp_path)


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run").touch()

    assert "not a folder" in refused(tmp_path / "run", "RUN-STORAGE", ExitCode.ENVIRONMENT)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr(os, "mkdir", refuse)

    assert "cannot write here" in refused(tmp_path / "run", "RUN-STORAGE", ExitCode.ENVIRONMENT)


def test_a_disk_that_is_nearly_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = namedtuple("space", ["f_bavail", "f_frsize"])
    monkeypatch.setattr(os, "statvfs", lambda _: space(1000, 4096))

    assert "only 3 MiB are free" in refused(tmp_path / "run", "RUN-DISK-FULL", ExitCode.ENVIRONMENT)
    assert not RunDirectory.exists(tmp_path / "run")


def test_opening_what_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, message in (("nothing", "no run directory"), (".", "no run.json"), ("file", "a file")):
        with pytest.raises(JobError, match=message) as caught:
            RunDirectory.open(tmp_path / name, Disk())
        assert caught.value.exit_code == ExitCode.ENVIRONMENT


def test_of_two_who_create_the_same_run_one_is_told(tmp_path: Path) -> None:
    create(tmp_path / "run")
    with pytest.raises(JobError) as caught:
        create(tmp_path / "run")

    assert (caught.value.code, caught.value.exit_code) == ("RUN-EXISTS", ExitCode.OTHER_RUNNER)


@pytest.mark.parametrize(
    "damage", [b"", b"{}", seal(b"{}\n"), seal(b"[]\n"), seal(b'{"format":{"major":1,"minor":0}}\n')]
)
def test_a_damaged_description_is_refused(tmp_path: Path, damage: bytes) -> None:
    run = create(tmp_path / "run")
    (run.path / "run.json").write_bytes(damage)

    assert "run.json: damaged" in refused(run.path, "RUN-DAMAGED", ExitCode.ENVIRONMENT)


def test_a_run_of_a_newer_format_is_refused_before_anything_else_is_understood(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    path = run.path / "run.json"
    path.write_bytes(seal(unseal(path.read_bytes()).replace(b'"major":1', b'"major":2').replace(b"model", b"mudel")))

    assert "upgrade" in refused(run.path, "RUN-OTHER-VERSION", ExitCode.OTHER_SPEC)


def test_a_linked_folder_inside_of_a_run_is_refused(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    run.text.rmdir()
    run.text.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(JobError, match="not a folder"):
        run.prepare()


def test_folders_that_are_missing_are_made_again(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.text.rmdir()
    run.prepare()

    assert run.text.is_dir()


def test_the_lock_is_for_one_at_a_time_and_names_its_holder(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    other = RunDirectory.open(run.path, Disk())
    with (
        run.lock(),
        pytest.raises(JobError, match=rf"process {os.getpid()} on host .* is working") as caught,
        other.lock(),
    ):
        pass

    assert (caught.value.code, caught.value.exit_code) == ("RUN-BUSY", ExitCode.OTHER_RUNNER)
    with other.lock():
        pass


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "parts/../../x", "a\0b"])
def test_no_path_leads_out_of_the_run(tmp_path: Path, path: str) -> None:
    run = create(tmp_path / "run")

    with pytest.raises(JobError, match="leads out"):
        run.locate(path)
    assert run.locate("parts/a/b.parquet") == run.parts / "a" / "b.parquet"


def test_only_leftovers_of_earlier_epochs_are_collected(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    kept = [
        "parts/sentences/d1-s0-e1a1-00.parquet",  # referenced
        "parts/sentences/d1-s0-e3a1-00.parquet",  # of this epoch
        "parts/sentences/d1-s0-e12a1-00.parquet",  # of a later one
        "parts/sentences/of-the-user.parquet",
        "checkpoints/d2/000000000512-e2a1-00.arrow",  # referenced
        "states/d1.end.arrow",
        "text/d1-00.zst",
        "output/sentences/part-00000-of-00001.parquet",
    ]
    dropped = [
        "checkpoints/d2/000000000256-e1a1-00.arrow",
        "checkpoints/d3/000000000256-e2a2-00.arrow",
        "ledger/00000003.json.tmp-00",
        "output.tmp-e2/sentences/part-00000-of-00001.parquet",
        "parts/sentences/d1-s0-e2a1-00.parquet",
        "parts/sentences/d1-s0-e3a1-01.parquet.tmp-00",
        "run.json.tmp-00",
        "states/d1.end.arrow.tmp-00",
    ]
    for name in kept + dropped:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    removed = run.collect_garbage({kept[0], kept[4]}, epoch=3)

    there = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert there == {*kept, "run.json"}
    assert removed == [name.replace("/sentences/part-00000-of-00001.parquet", "") for name in dropped]
    assert not (run.checkpoints / "d3").exists()
    assert run.collect_garbage({kept[0], kept[4]}, epoch=3) == []


def test_collecting_never_follows_a_link(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "d1-s0-e1a1-00.parquet").touch()
    (run.parts / "sentences").symlink_to(outside)
    (run.path / "output.tmp-e1").symlink_to(outside)
    run.collect_garbage(set(), epoch=3)

    assert [path.name for path in outside.iterdir()] == ["d1-s0-e1a1-00.parquet"]


def test_these_modules_load_neither_arrays_nor_tables() -> None:
    modules = "jobs.ledger, jobs.run_directory, jobs.manifest, jobs.finalize, jobs.verify"
    heavy = "{'torch', 'ray', 'numpy', 'pyarrow'}"
    program = f"import sys, {modules}; sys.exit(bool({heavy} & sys.modules.keys()))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
