"""Controls: the harnesses of this folder find something wrong once the mechanism is taken away that they watch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest import mock

import pytest

from jobs.errors import JobError
from pipeline.durable import Disk
from tests.faults.damage import damages
from tests.faults.forked import processes
from tests.faults.histories import corpus, undisturbed
from tests.faults.rivals import round_of_rivals
from tests.jobs.fake_driver import drive, quick_disk, result


class Overwriting(Disk):
    """Does not mind that a name is taken: the fence between two drivers is gone."""

    def __init__(self) -> None:
        super().__init__(flush=lambda _: None)

    def put_if_absent(self, path: Path, data: bytes | memoryview) -> None:
        self.publish(path, data)


class Hasty(Disk):
    """Writes files under their names from the beginning, and dies in the middle of the `last` one."""

    def __init__(self, last: int) -> None:
        super().__init__(flush=lambda _: None)
        self._left = last

    def publish(self, path: Path, data: bytes | memoryview) -> None:
        self._left -= 1
        path.write_bytes(bytes(data[: len(data) // 2] if self._left == 0 else data))
        if self._left == 0:
            raise KeyboardInterrupt

    def put_if_absent(self, path: Path, data: bytes | memoryview) -> None:
        if os.path.lexists(path):
            raise FileExistsError(path)
        self.publish(path, data)


def test_drivers_that_overwrite_records_ruin_the_ledger(tmp_path: Path) -> None:
    documents = corpus(tmp_path / "corpus")
    expected = undisturbed(shutil.copytree(documents, tmp_path / "golden"))
    context = processes()

    rounds = (shutil.copytree(documents, tmp_path / f"round-{number}") for number in range(20))

    assert any(round_of_rivals(context, folder, expected, Overwriting) for folder in rounds)


def test_without_sums_damage_goes_unnoticed(tmp_path: Path) -> None:
    with (
        mock.patch("jobs.ledger.unseal", lambda data: data[:-65]),
        mock.patch("jobs.manifest.unseal", lambda data: data[:-65]),
    ):
        assert any(damage.wrong for damage in damages(range(200), tmp_path))


def test_files_that_have_their_name_before_they_are_whole_leave_runs_that_cannot_be_resumed(tmp_path: Path) -> None:
    documents = corpus(tmp_path / "corpus")
    expected = undisturbed(shutil.copytree(documents, tmp_path / "golden"))

    def ruined(last: int) -> bool:
        folder = shutil.copytree(documents, tmp_path / f"killed-{last}")
        with pytest.raises(KeyboardInterrupt):
            drive(folder, Hasty(last))
        try:
            drive(folder, quick_disk())
        except JobError:
            return True
        return result(folder) != expected

    assert any(ruined(last) for last in range(1, 6))
