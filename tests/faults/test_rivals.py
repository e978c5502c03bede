"""The ledger alone keeps drivers apart: three on one run, without a lock, leave one linear ledger and equal bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.faults.forked import processes
from tests.faults.histories import corpus, undisturbed
from tests.faults.rivals import round_of_rivals

ROUNDS = 20


def test_three_drivers_without_a_lock_leave_one_linear_ledger_and_the_same_bytes(tmp_path: Path) -> None:
    documents = corpus(tmp_path / "corpus")
    expected = undisturbed(shutil.copytree(documents, tmp_path / "golden"))
    context = processes()

    wrong = []
    for number in range(ROUNDS):
        folder = shutil.copytree(documents, tmp_path / f"round-{number}")
        wrong.append(round_of_rivals(context, folder, expected))

    assert wrong == [""] * ROUNDS
