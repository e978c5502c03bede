"""A process that crashes leaves behind at what; one that is killed, or ends, blames nobody."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.durable import Disk
from pipeline.last_words import Crash, Diary, take_crashes
from tests.jobs.project import REPOSITORY

PROGRAM = """
import ctypes, os, sys
from pathlib import Path
from pipeline.last_words import Diary
diary = Diary(Path(sys.argv[1]))
diary.reads(["d2", "d1"])
diary.reads(["d3", "d1"])
{end}
"""


def end(folder: Path, how: str) -> list[Crash]:
    """Have a process read two documents and end; what it has left behind."""
    program = [sys.executable, "-c", PROGRAM.format(end=how), str(folder)]
    subprocess.run(program, cwd=REPOSITORY, capture_output=True, timeout=60)
    return list(take_crashes(folder, Disk()))


def test_what_a_process_read_when_it_crashed_is_found_once_and_its_stack_stays(tmp_path: Path) -> None:
    assert end(tmp_path, "ctypes.string_at(0)") == [Crash("Segmentation fault", ("d1", "d3"))]

    assert list(take_crashes(tmp_path, Disk())) == []
    [stack] = tmp_path.iterdir()
    assert stack.name.startswith("worker-") and "string_at" in stack.read_text("utf-8")
    assert stack.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "how", ["os.kill(os.getpid(), 9)", "diary.close()", "diary.reads(()); ctypes.string_at(0)", "os._exit(3)"]
)
def test_a_process_that_is_killed_or_comes_to_its_end_blames_no_document(tmp_path: Path, how: str) -> None:
    blamed = [doc_id for crash in end(tmp_path, how) for doc_id in crash.doc_ids]

    assert blamed == []
    assert not list(tmp_path.glob("reading-*"))


def test_a_program_with_its_own_fault_handler_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: True)
    diary = Diary(tmp_path)

    diary.reads(["d1"])
    diary.close()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_keeps_nobody_from_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: False)
    diary = Diary(tmp_path / "none")

    diary.reads(["d1"])
    diary.close()

    assert list(tmp_path.iterdir()) == []
